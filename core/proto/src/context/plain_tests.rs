use super::*;

/// After a false alarm what was missed is not missed for a while: the longer, the more of them there were in a row.
#[test]
fn false_alarms_make_it_patient() {
    let now = Instant::now();
    let mut tempo = Tempo::default();
    let mut lenient = || {
        tempo.mistaken(now);
        tempo.lenient.map(|until| until.saturating_duration_since(now))
    };
    let factors: Vec<_> = (0..4).map(|_| lenient()).collect();
    assert_eq!(factors, [1, 2, 4, 4].map(|factor| Some(timing::PLAIN_LENIENCE * factor)));
}

/// How long silence is no reason for doubt: what is lawful where no habit is known, else by the slowest answer lately.
#[test]
fn patience_follows_the_slowest_answer() {
    let ms = Duration::from_millis;
    let mut tempo = Tempo::default();
    assert_eq!(tempo.patience(ms(20)), timing::PLAIN_LAWFUL);
    for took in [10, 300, 10, 10, 10, 10] {
        tempo.note(ms(took));
    }
    assert!(tempo.is_habit());
    assert_eq!(tempo.patience(ms(20)), ms(600) + timing::MIN_SILENCE);
    for _ in 0..Tempo::MEMORY {
        tempo.note(ms(10));
    }
    assert_eq!(tempo.patience(ms(20)), timing::PLAIN_SILENCE, "the slow one is forgotten");
    assert_eq!(tempo.patience(ms(1_000)), ms(1_500) + timing::MIN_SILENCE, "a round trip takes as long");
    assert_eq!(tempo.patience(ms(20_000)), ms(30_000) + timing::MIN_SILENCE);
}

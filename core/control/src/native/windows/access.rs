//! Users and groups of Windows.

use super::security::{Sid, Token};
use crate::access::{Caller, GROUP};

/// A user, as the system tells of the other end of a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    user: Sid,
    /// Its token had the group's rights when it came.
    member: bool,
}

/// Who is at the other end of a pipe of which something was read.
pub(super) fn caller(pipe: &impl std::os::windows::io::AsRawHandle) -> std::io::Result<Caller> {
    let token = Token::of_client(pipe)?;
    let user = token.user()?;
    let administrator = token.has(&Sid::administrators()?) || user == Sid::system()?;
    let member = Sid::named(GROUP).is_some_and(|group| token.has(&group));
    Ok(Caller {
        user: user.to_string(),
        administrator,
        account: Some(Account { user, member }),
        client: String::new(),
        steers: false,
    })
}

/// The service's own user.
pub(crate) fn is_own(account: Account) -> bool {
    Token::own().and_then(|token| token.user()).is_ok_and(|own| own == account.user)
}

/// A member of the local group, by its token or by what the user database says now.
pub(crate) fn is_member(account: Account) -> bool {
    account.member || account.user.is_in_group(GROUP)
}

/// What somebody can do who may not change things.
pub(crate) fn remedy(account: Option<Account>) -> String {
    let user = account.and_then(|account| account.user.name()).unwrap_or_else(|| "USER".to_owned());
    let create = match Sid::named(GROUP) {
        Some(_) => "",
        None => "net localgroup mast /add & ",
    };
    format!(
        "run as administrator, or have an administrator add you to the group `{GROUP}`: {create}net localgroup {GROUP} \
         \"{user}\" /add"
    )
}

/// A user by name or security identifier, in the words of [`Caller::user`]. It asks the user database.
pub fn user_id(text: &str) -> Option<String> {
    Sid::parse(text).or_else(|| Sid::named(text)).map(|user| user.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names_and_numbers() {
        assert_eq!(user_id("S-1-5-18").as_deref(), Some("S-1-5-18"));
        assert_eq!(Sid::system().unwrap().to_string(), "S-1-5-18");
        assert_eq!(Sid::administrators().unwrap().to_string(), "S-1-5-32-544");
        assert_eq!(user_id("no such user"), None);
        let own = Token::own().unwrap().user().unwrap();
        assert_eq!(Sid::parse(&own.to_string()), Some(own));
        assert!(is_own(Account { user: own, member: false }));
        assert!(!is_own(Account { user: Sid::parse("S-1-5-7").unwrap(), member: true }));
        assert!(!Sid::parse("S-1-5-7").unwrap().is_in_group("no such group"));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let text = remedy(None);
        assert!(
            text.contains("administrator") && text.contains("net localgroup mast \"USER\" /add"),
            "{text}"
        );
    }
}

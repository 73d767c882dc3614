//! What the page may ask for. Each is checked by the service; nothing here decides.

use std::path::PathBuf;
use std::sync::Arc;

use mast_control::{
    AddressesTold, AtStart, BudgetSet, DrillReport, Event, History, InterfaceSet, Invite, InviteRevoke,
    InviteStatus, Invited, Invites, Logs, Metered, Pause, PeerAdd, PeerAdded, PeerFile, PeerRemove, PeerSet,
    PolicyClear, PolicyMode, PolicySet, PresenceLogin, PresenceReport, Request, SettingsSet, Story,
    StoryRequest, UplinkUsage, UsageReport,
};
use serde::Serialize;
use tauri::ipc::Invoke;
use tauri::{AppHandle, Emitter, Runtime, State};
use tauri_plugin_autostart::ManagerExt;
use tauri_plugin_clipboard_manager::ClipboardExt;
use tauri_plugin_dialog::DialogExt;

use crate::refusal::Refusal;
use crate::said::StoryEvent;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::{bundle, qr, secrets, window};

type App<'s> = State<'s, Arc<Shared>>;
type Done<T = ()> = Result<T, Refusal>;

/// The longest text that is taken from the page, in bytes: a wg-quick file is much shorter.
const MAX_TEXT: usize = 128 * 1024;

/// Answers the page.
pub fn handler<R: Runtime>() -> impl Fn(Invoke<R>) -> bool + Send + Sync + 'static {
    tauri::generate_handler![
        snapshot,
        up,
        down,
        pause,
        mend,
        set_policy,
        clear_policy,
        set_metered,
        set_excluded,
        offered_link,
        add_link,
        add_file,
        read_qr,
        remove_peer,
        set_full_tunnel,
        set_addresses,
        set_own,
        invite,
        invites,
        revoke_invite,
        story,
        export_story,
        history,
        usage,
        set_budget,
        drill,
        set_at_start,
        set_leak_protection,
        set_local_network,
        set_theme,
        set_start_at_login,
        set_notifications,
        set_key_place,
        presence,
        presence_login,
        presence_logout,
        logs,
        save_bundle,
        copy,
    ]
}

/// The word that names an interface in a policy, whatever it is called.
pub fn selector(interface: &str) -> String {
    match interface {
        "wifi" | "cellular" | "ethernet" | "other" => format!("interface:{interface}"),
        name => name.to_owned(),
    }
}

fn short(field: &str, text: &str) -> Done {
    if text.len() <= MAX_TEXT {
        return Ok(());
    }
    Err(Refusal::of(field, format!("This is longer than {} kB: it cannot be right.", MAX_TEXT / 1024)))
}

#[tauri::command]
fn snapshot<R: Runtime>(handle: AppHandle<R>, app: App<'_>) -> Snapshot {
    Snapshot::of(&app, window::starts_at_login(&handle))
}

#[tauri::command]
async fn up(app: App<'_>) -> Done {
    app.tell(&Request::Up).await
}

#[tauri::command]
async fn down(app: App<'_>) -> Done {
    app.tell(&Request::Down).await
}

#[tauri::command]
async fn pause(app: App<'_>, seconds: u64) -> Done {
    app.tell(&Request::Pause(Pause { seconds })).await
}

#[tauri::command]
async fn mend(app: App<'_>) -> Done {
    let remedy = app.view().service.remedy.clone();
    let Some(remedy) = remedy else { return Err(Refusal::new("There is nothing to mend.")) };
    let result = remedy.take().await;
    app.refresh.notify_one();
    result
}

#[tauri::command]
async fn set_policy(
    app: App<'_>,
    peer: Option<String>,
    mode: PolicyMode,
    pin: Vec<String>,
    fallback: bool,
    small: bool,
    metered: bool,
) -> Done {
    app.tell(&Request::PolicySet(PolicySet { peer, mode, pin, fallback, small, metered })).await
}

#[tauri::command]
async fn clear_policy(app: App<'_>, peer: String) -> Done {
    app.tell(&Request::PolicyClear(PolicyClear { peer })).await
}

#[tauri::command]
async fn set_metered(app: App<'_>, name: String, metered: Metered) -> Done {
    app.tell(&Request::InterfaceSet(InterfaceSet { name, metered: Some(metered), excluded: None })).await
}

#[tauri::command]
async fn set_excluded(app: App<'_>, name: String, excluded: bool) -> Done {
    app.tell(&Request::InterfaceSet(InterfaceSet { name, metered: None, excluded: Some(excluded) })).await
}

/// A peer was added.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Added {
    /// What it is called here.
    pub name: String,
}

/// An invite that the app was started with, once: the page shows it, and the user decides.
#[tauri::command]
fn offered_link(app: App<'_>) -> Option<String> {
    app.take_offer()
}

#[tauri::command]
async fn add_link(app: App<'_>, link: String, name: Option<String>) -> Done<Added> {
    let link = link.trim().to_owned();
    short("link", &link)?;
    if !link.starts_with("mast://") {
        return Err(Refusal::of("link", "This is not an invite: an invite begins with mast:// ."));
    }
    add(&app, PeerAdd { link: Some(link), file: None, name }).await
}

#[tauri::command]
async fn add_file(app: App<'_>, file_name: String, contents: String, name: Option<String>) -> Done<Added> {
    short("file", &contents)?;
    if contents.contains('\0') {
        return Err(Refusal::of("file", "This is not a text file: a WireGuard configuration is one."));
    }
    let file = PeerFile { name: file_name, contents };
    add(&app, PeerAdd { link: None, file: Some(file), name }).await
}

async fn add(app: &Shared, peer: PeerAdd) -> Done<Added> {
    let added: PeerAdded = app.ask(&Request::PeerAdd(peer)).await?;
    app.refresh.notify_one();
    Ok(Added { name: added.name })
}

#[tauri::command]
async fn read_qr(picture: String) -> Done<String> {
    let found = tokio::task::spawn_blocking(move || qr::find(&picture)).await;
    found.unwrap_or_else(|_| Err(Refusal::of("picture", "The picture could not be searched.")))
}

#[tauri::command]
async fn remove_peer(app: App<'_>, name: String) -> Done {
    app.tell(&Request::PeerRemove(PeerRemove { name })).await
}

#[tauri::command]
async fn set_full_tunnel(app: App<'_>, name: String, on: bool) -> Done {
    app.tell(&Request::PeerSet(PeerSet { name, full_tunnel: Some(on), ..PeerSet::default() })).await
}

#[tauri::command]
async fn set_addresses(app: App<'_>, name: String, addresses: AddressesTold) -> Done {
    app.tell(&Request::PeerSet(PeerSet { name, addresses: Some(addresses), ..PeerSet::default() })).await
}

#[tauri::command]
async fn set_own(app: App<'_>, name: String, on: bool) -> Done {
    app.tell(&Request::PeerSet(PeerSet { name, own: Some(on), ..PeerSet::default() })).await
}

/// An invite, with its code.
#[derive(Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct Invitation {
    /// The link.
    pub link: String,
    /// Until when it is good.
    pub expires: String,
    /// The link as a QR code.
    pub qr: qr::Code,
}

#[tauri::command]
async fn invite(app: App<'_>, expires_s: u64, name: Option<String>) -> Done<Invitation> {
    let Invited { link, expires } = app.ask(&Request::Invite(Invite { expires_s, name })).await?;
    let qr = qr::make(&link)?;
    Ok(Invitation { link, expires, qr })
}

#[tauri::command]
async fn invites(app: App<'_>) -> Done<Vec<InviteStatus>> {
    let list: Invites = app.ask(&Request::InviteList).await?;
    Ok(list.invites)
}

#[tauri::command]
async fn revoke_invite(app: App<'_>, id: String) -> Done {
    app.tell(&Request::InviteRevoke(InviteRevoke { id })).await
}

#[tauri::command]
async fn story(app: App<'_>, limit: u32) -> Done<Vec<StoryEvent>> {
    let story: Story = app.ask(&Request::Story(StoryRequest { limit })).await?;
    let status = app.view().status.clone();
    Ok(story.events.iter().map(|event| StoryEvent::of(event, status.as_ref())).collect())
}

/// Asks where to, and writes there; none when the user thought better of it.
async fn save_as<R: Runtime>(handle: &AppHandle<R>, name: &str, text: String) -> Done<Option<String>> {
    let (chosen, answer) = tokio::sync::oneshot::channel();
    handle.dialog().file().set_file_name(name).save_file(move |path| drop(chosen.send(path)));
    let Some(path) = answer.await.ok().flatten() else { return Ok(None) };
    let path: PathBuf = path.into_path().map_err(|error| Refusal::new(error.to_string()))?;
    let written = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || std::fs::write(path, text)).await
    };
    match written {
        Ok(Ok(())) => Ok(Some(path.display().to_string())),
        Ok(Err(error)) => Err(Refusal::new(format!("{} cannot be written: {error}", path.display()))),
        Err(error) => Err(Refusal::new(error.to_string())),
    }
}

#[tauri::command]
async fn export_story<R: Runtime>(handle: AppHandle<R>, events: Vec<Event>) -> Done<Option<String>> {
    let text = serde_json::to_string_pretty(&events).map_err(|error| Refusal::new(error.to_string()))?;
    save_as(&handle, "mast-story.json", text).await
}

#[tauri::command]
async fn history(app: App<'_>) -> Done<History> {
    app.ask(&Request::History).await
}

#[tauri::command]
async fn usage(app: App<'_>) -> Done<Vec<UplinkUsage>> {
    let report: UsageReport = app.ask(&Request::Usage).await?;
    Ok(report.uplinks)
}

#[tauri::command]
async fn set_budget(app: App<'_>, uplink: String, bytes: Option<u64>) -> Done {
    app.tell(&Request::BudgetSet(BudgetSet { uplink, bytes })).await
}

#[tauri::command]
async fn drill<R: Runtime>(handle: AppHandle<R>, app: App<'_>, peer: String) -> Done<DrillReport> {
    app.with(async |client| {
        client
            .drill(&peer, |progress| {
                // A page that is gone misses it.
                let _ = handle.emit_to(window::LABEL, "drill", &progress);
            })
            .await
    })
    .await
}

#[tauri::command]
async fn presence(app: App<'_>) -> Done<PresenceReport> {
    app.ask(&Request::Presence).await
}

#[tauri::command]
async fn presence_login(
    app: App<'_>,
    account: String,
    password: String,
    server: Option<String>,
) -> Done<PresenceReport> {
    let login = PresenceLogin { account, password, server, authority: None };
    app.ask(&Request::PresenceLogin(login)).await
}

#[tauri::command]
async fn presence_logout(app: App<'_>) -> Done<PresenceReport> {
    app.ask(&Request::PresenceLogout).await
}

#[tauri::command]
async fn set_at_start(app: App<'_>, at_start: AtStart) -> Done {
    app.tell(&Request::SettingsSet(SettingsSet { at_start: Some(at_start), ..SettingsSet::default() })).await
}

#[tauri::command]
async fn set_leak_protection(app: App<'_>, on: bool) -> Done {
    app.tell(&Request::SettingsSet(SettingsSet { leak_protection: Some(on), ..SettingsSet::default() })).await
}

#[tauri::command]
async fn set_local_network(app: App<'_>, on: bool) -> Done {
    app.tell(&Request::SettingsSet(SettingsSet { local_network: Some(on), ..SettingsSet::default() })).await
}

#[tauri::command]
fn set_theme(app: App<'_>, theme: String) -> Done {
    if !["system", "light", "dark"].contains(&theme.as_str()) {
        return Err(Refusal::of("theme", "There is no such theme."));
    }
    app.set(|s| s.theme = theme)
}

#[tauri::command]
fn set_start_at_login<R: Runtime>(handle: AppHandle<R>, app: App<'_>, on: bool) -> Done {
    let auto = handle.autolaunch();
    let done = if on { auto.enable() } else { auto.disable() };
    app.changed.notify_one();
    done.map_err(|error| Refusal::new(format!("This desktop does not let MAST start at login: {error}.")))
}

#[tauri::command]
fn set_notifications(app: App<'_>, on: bool) -> Done {
    app.set(|s| s.notifications = on)
}

#[tauri::command]
async fn set_key_place(app: App<'_>, place: String) -> Done {
    match place.as_str() {
        "login" => secrets::hand_over(&app).await,
        "service" => secrets::take_back(&app).await,
        _ => Err(Refusal::of("place", "There is no such place for the key.")),
    }
}

#[tauri::command]
async fn logs(app: App<'_>) -> Done<Vec<String>> {
    let logs: Logs = app.ask(&Request::Logs).await?;
    Ok(logs.lines)
}

#[tauri::command]
async fn save_bundle<R: Runtime>(handle: AppHandle<R>, app: App<'_>) -> Done<Option<String>> {
    let status = app.view().status.clone();
    let logs: Option<Logs> = app.ask(&Request::Logs).await.ok();
    let doctor = app.with(async |client| client.doctor().await).await.ok();
    let text = bundle::text(status.as_ref(), doctor.as_ref(), &logs.unwrap_or_default().lines);
    save_as(&handle, "mast-report.txt", text).await
}

#[tauri::command]
fn copy<R: Runtime>(handle: AppHandle<R>, text: String) -> Done {
    short("text", &text)?;
    let done = handle.clipboard().write_text(text);
    done.map_err(|error| Refusal::new(format!("The clipboard cannot be used: {error}.")))
}

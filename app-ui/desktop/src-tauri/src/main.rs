//! The desktop app of MAST.

// No console beside the window on Windows.
#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

fn main() -> std::process::ExitCode {
    #[cfg(target_os = "linux")]
    plain_drawing();
    mast_desktop::main()
}

/// Has WebKit draw by itself. A page that hardly moves gains nothing from the graphics processor, and its libraries
/// cost some 100 MB of memory and half of the processor time. WebKit reads this once, from its environment, which a
/// process can safely set for its successor only.
#[cfg(target_os = "linux")]
fn plain_drawing() {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    const SWITCH: &str = "WEBKIT_DISABLE_COMPOSITING_MODE";
    if std::env::var_os(SWITCH).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "mast-desktop".into());
    let again = match std::env::current_exe() {
        Ok(program) => Command::new(program).arg0(name).args(arguments).env(SWITCH, "1").exec(),
        Err(error) => error,
    };
    // It did not become its successor, and goes on as it is.
    eprintln!("mast-desktop: {again}");
}

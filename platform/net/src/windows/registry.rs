//! The registry, as values, and libraries that are not on every Windows.

use std::collections::BTreeMap;
use std::io;

use windows_registry::{Key, Type};
use windows_sys::Win32::Foundation::{FARPROC, HMODULE};
use windows_sys::Win32::System::LibraryLoader::{
    GetProcAddress, LOAD_LIBRARY_SEARCH_SYSTEM32, LoadLibraryExW,
};

use super::system::Value;

/// An error of the registry: its low half is one of the system's.
fn told(error: impl Into<io::Error>) -> io::Error {
    let error: io::Error = error.into();
    let error = error.raw_os_error().map_or(error, |code| io::Error::from_raw_os_error(code & 0xffff));
    io::Error::new(error.kind(), format!("the registry: {error}"))
}

/// The keys below one.
pub(super) fn keys(root: &Key, path: &str) -> io::Result<Vec<String>> {
    let key = root.open(path).map_err(told)?;
    Ok(key.keys().map_err(told)?.collect())
}

/// The values of a key, as far as they are of the kinds that rules have.
pub(super) fn values(root: &Key, path: &str) -> io::Result<BTreeMap<String, Value>> {
    let key = root.open(path).map_err(told)?;
    let all = key.values().map_err(told)?;
    let value = |value: windows_registry::Value| match value.ty() {
        Type::U32 => value.try_into().ok().map(Value::Number),
        Type::String => value.try_into().ok().map(Value::Text),
        // Zeros at the end are taken for texts.
        Type::MultiString => Vec::<String>::try_from(value)
            .ok()
            .map(|texts| Value::Texts(texts.into_iter().filter(|text| !text.is_empty()).collect())),
        _ => None,
    };
    Ok(all.filter_map(|(name, found)| Some((name, value(found)?))).collect())
}

/// Makes a key with these values and no others, which does not outlive a boot. The one above it stays.
pub(super) fn write(root: &Key, path: &str, values: &BTreeMap<String, Value>) -> io::Result<()> {
    let written = || {
        let _ = root.remove_tree(path);
        if let Some((above, _)) = path.rsplit_once('\\') {
            root.create(above)?;
        }
        let key = root.options().read().write().create().volatile().open(path)?;
        for (name, value) in values {
            match value {
                Value::Number(number) => key.set_u32(name, *number)?,
                Value::Text(text) => key.set_string(name, text)?,
                Value::Texts(texts) => {
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    key.set_multi_string(name.as_str(), &texts)?;
                }
            }
        }
        Ok::<_, io::Error>(())
    };
    written().map_err(told)
}

/// Removes a key with all below it.
pub(super) fn delete(root: &Key, path: &str) -> io::Result<()> {
    root.remove_tree(path).map_err(told)
}

/// A library of the system's own folder, which stays loaded; none where this Windows has it not.
pub(super) fn library(name: &str) -> Option<HMODULE> {
    let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
    // SAFETY: the name ends in zero; only the system's own folder is looked into.
    let module = unsafe { LoadLibraryExW(name.as_ptr(), std::ptr::null_mut(), LOAD_LIBRARY_SEARCH_SYSTEM32) };
    (!module.is_null()).then_some(module)
}

/// A function of such a library; none where it has it not.
pub(super) fn function(library: &str, name: &std::ffi::CStr) -> FARPROC {
    let module = self::library(library)?;
    // SAFETY: the library stays loaded, and the name ends in zero.
    unsafe { GetProcAddress(module, name.as_ptr().cast()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use windows_registry::CURRENT_USER;

    use super::*;

    #[test]
    fn a_key_is_written_whole_and_goes() {
        let above = format!(r"Software\mast-test-{}", std::process::id());
        let path = format!(r"{above}\one");
        assert_eq!(values(CURRENT_USER, &path).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(keys(CURRENT_USER, &above).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(delete(CURRENT_USER, &path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let first: BTreeMap<_, _> = [
            ("Text".to_owned(), Value::Text("10.0.0.1;fd00::1".into())),
            ("None".to_owned(), Value::Text(String::new())),
            ("Number".to_owned(), Value::Number(8)),
            ("Texts".to_owned(), Value::Texts(vec![".".into(), ".example".into()])),
        ]
        .into();
        write(CURRENT_USER, &path, &first).unwrap();
        assert_eq!(values(CURRENT_USER, &path).unwrap(), first);
        let second: BTreeMap<_, _> = [("Number".to_owned(), Value::Number(9))].into();
        write(CURRENT_USER, &path, &second).unwrap();
        assert_eq!(values(CURRENT_USER, &path).unwrap(), second);
        assert_eq!(keys(CURRENT_USER, &above).unwrap(), ["one"]);
        delete(CURRENT_USER, &path).unwrap();
        assert_eq!(keys(CURRENT_USER, &above).unwrap(), [""; 0]);
        delete(CURRENT_USER, &above).unwrap();
    }

    #[test]
    fn what_is_not_on_every_windows_is_looked_for() {
        assert!(library("no-such-library.dll").is_none());
        assert!(function("kernel32.dll", c"GetTickCount64").is_some());
        assert!(function("kernel32.dll", c"NoSuchFunction").is_none());
    }
}

//! Owners and access control lists of Windows. The key is sealed by DPAPI: on another machine, and for another account,
//! its file is worth nothing.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::ptr::{null, null_mut};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use windows_sys::Win32::Foundation::{HANDLE, LocalFree};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, GetNamedSecurityInfoW,
    SDDL_REVISION_1, SE_FILE_OBJECT, SetNamedSecurityInfoW,
};
use windows_sys::Win32::Security::Cryptography::{
    CRYPT_INTEGER_BLOB, CRYPTPROTECT_UI_FORBIDDEN, CryptProtectData, CryptUnprotectData,
};
use windows_sys::Win32::Security::{
    ACCESS_ALLOWED_ACE, ACE_HEADER, ACL, DACL_SECURITY_INFORMATION, GetAce, GetSecurityDescriptorDacl,
    GetTokenInformation, INHERIT_ONLY_ACE, OWNER_SECURITY_INFORMATION, PROTECTED_DACL_SECURITY_INFORMATION,
    PSECURITY_DESCRIPTOR, PSID, SECURITY_ATTRIBUTES, TOKEN_QUERY, TOKEN_USER, TokenUser,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateDirectoryW, FILE_APPEND_DATA, FILE_DELETE_CHILD, FILE_FLAG_OPEN_REPARSE_POINT, FILE_READ_DATA,
    FILE_WRITE_DATA, GetFinalPathNameByHandleW, WRITE_DAC, WRITE_OWNER,
};
use windows_sys::Win32::System::SystemServices::ACCESS_ALLOWED_ACE_TYPE;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};
use zeroize::{Zeroize, Zeroizing};

use crate::dir::{StateError, failed};

/// The system, administrators, and whoever made it; nothing comes from the folders above.
const PRIVATE: &str = "D:PAI(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)(A;OICI;FA;;;OW)";
/// The system, administrators, whoever made it (as it is inherited, and as it is).
const TRUSTED: [&str; 4] = ["S-1-5-18", "S-1-5-32-544", "S-1-3-0", "S-1-3-4"];
const GENERIC_ALL: u32 = 0x1000_0000;
const GENERIC_WRITE: u32 = 0x4000_0000;
const GENERIC_READ: u32 = 0x8000_0000;
/// `DELETE` of the system's headers.
const DELETE: u32 = 0x0001_0000;
const CHANGE: u32 = FILE_WRITE_DATA
    | FILE_APPEND_DATA
    | FILE_DELETE_CHILD
    | DELETE
    | WRITE_DAC
    | WRITE_OWNER
    | GENERIC_ALL
    | GENERIC_WRITE;
const READ: u32 = FILE_READ_DATA | GENERIC_READ | GENERIC_ALL;
/// A path of the system's own notation is no longer, in UTF-16 units.
const LONGEST: usize = 2048;
/// What stands before a sealed key.
const SEALED: &str = "dpapi:";
/// Other programs of the same account do not open it by mistake.
const PURPOSE: &[u8] = b"mast private key";

fn wide(path: &Path) -> Vec<u16> {
    path.as_os_str().encode_wide().chain([0]).collect()
}

/// Makes a directory for the system, administrators and its owner only.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    let text: Vec<u16> = PRIVATE.encode_utf16().chain([0]).collect();
    let path = wide(path);
    let mut descriptor: PSECURITY_DESCRIPTOR = null_mut();
    // SAFETY: both texts end in zero; the descriptor outlives its use and is freed once.
    unsafe {
        let revision = SDDL_REVISION_1;
        let made = ConvertStringSecurityDescriptorToSecurityDescriptorW(
            text.as_ptr(),
            revision,
            &mut descriptor,
            null_mut(),
        );
        if made == 0 {
            return Err(io::Error::last_os_error());
        }
        let attributes = SECURITY_ATTRIBUTES {
            nLength: u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).unwrap_or_default(),
            lpSecurityDescriptor: descriptor,
            bInheritHandle: 0,
        };
        let result = match CreateDirectoryW(path.as_ptr(), &raw const attributes) {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        };
        LocalFree(descriptor);
        result
    }
}

/// # Safety
/// `sid` points to a security identifier.
unsafe fn text_of(sid: PSID) -> String {
    let mut text = null_mut();
    // SAFETY: as the condition says; the text ends in zero and is freed once.
    unsafe {
        if ConvertSidToStringSidW(sid, &mut text) == 0 {
            return "somebody unknown".to_owned();
        }
        let length = (0..).take_while(|at| *text.add(*at) != 0).count();
        let shown = String::from_utf16_lossy(std::slice::from_raw_parts(text, length));
        LocalFree(text.cast());
        shown
    }
}

/// The account of this process.
fn own_account() -> io::Result<String> {
    let mut token: HANDLE = null_mut();
    let mut room = [0u64; 16];
    let mut size = 0;
    // SAFETY: the buffer is as long as is said; the identifier within is read while it lives; the handle is closed.
    unsafe {
        if OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &mut token) == 0 {
            return Err(io::Error::last_os_error());
        }
        let length = u32::try_from(size_of_val(&room)).unwrap_or_default();
        let asked = GetTokenInformation(token, TokenUser, room.as_mut_ptr().cast(), length, &mut size);
        let error = io::Error::last_os_error();
        windows_sys::Win32::Foundation::CloseHandle(token);
        if asked == 0 {
            return Err(error);
        }
        Ok(text_of((*room.as_ptr().cast::<TOKEN_USER>()).User.Sid))
    }
}

/// Who owns something, and which account has which rights to it. None for the rights: everybody has all.
struct Rights {
    owner: String,
    granted: Option<Vec<(String, u32)>>,
}

fn rights(path: &Path) -> io::Result<Rights> {
    let path = wide(path);
    let (mut owner, mut acl): (PSID, *mut ACL) = (null_mut(), null_mut());
    let mut descriptor: PSECURITY_DESCRIPTOR = null_mut();
    // SAFETY: the path ends in zero; owner and list point into the descriptor, which is freed once they were read. Entries
    // are as long as the system says, and one that allows begins as `ACCESS_ALLOWED_ACE` does.
    unsafe {
        let code = GetNamedSecurityInfoW(
            path.as_ptr(),
            SE_FILE_OBJECT,
            OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
            &mut owner,
            null_mut(),
            &mut acl,
            null_mut(),
            &mut descriptor,
        );
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code.cast_signed()));
        }
        let mut found = Rights { owner: text_of(owner), granted: None };
        if !acl.is_null() {
            let granted = found.granted.insert(Vec::new());
            for at in 0..u32::from((*acl).AceCount) {
                let mut ace = null_mut();
                if GetAce(acl, at, &mut ace) == 0 {
                    continue;
                }
                let header = &*ace.cast::<ACE_HEADER>();
                let counts = u32::from(header.AceFlags) & INHERIT_ONLY_ACE == 0;
                if u32::from(header.AceType) == ACCESS_ALLOWED_ACE_TYPE && counts {
                    let ace = ace.cast::<ACCESS_ALLOWED_ACE>();
                    granted.push((text_of((&raw mut (*ace).SidStart).cast()), (*ace).Mask));
                }
            }
        }
        LocalFree(descriptor);
        Ok(found)
    }
}

/// Who beside those who may has one of these rights, or owns it.
fn stranger(rights: &Rights, own: &str, bits: u32) -> Option<String> {
    let may = |who: &str| who == own || TRUSTED.contains(&who);
    if !may(&rights.owner) {
        return Some(rights.owner.clone());
    }
    match &rights.granted {
        None => Some("everybody".to_owned()),
        Some(all) => all.iter().find(|(who, mask)| mask & bits != 0 && !may(who)).map(|(who, _)| who.clone()),
    }
}

fn nobody_elses(path: &Path, bits: u32) -> Result<(), StateError> {
    let look = |error| failed("look at", path, error);
    let (rights, own) = (rights(path).map_err(look)?, own_account().map_err(look)?);
    match stranger(&rights, &own, bits) {
        Some(who) => Err(StateError::Exposed { path: path.to_path_buf(), who }),
        None => Ok(()),
    }
}

/// Refuses a directory that others can change.
pub(crate) fn own_directory(path: &Path, _: &Metadata) -> Result<(), StateError> {
    nobody_elses(path, CHANGE)
}

/// Refuses a file that others can change; or read, if it is secret.
pub(crate) fn own_file(path: &Path, _: &File, secret: bool) -> Result<(), StateError> {
    nobody_elses(path, if secret { CHANGE | READ } else { CHANGE })
}

/// For a file that is nobody else's, as its directory is, and no link.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    not_followed(options)
}

/// For a file that is no link.
pub(crate) fn not_followed(options: &mut OpenOptions) -> &mut OpenOptions {
    options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
}

/// Has a file be the system's, administrators' and its owner's alone, whatever its directory hands down.
pub(crate) fn give(file: &File, _: &Path) -> io::Result<()> {
    let text = format!("D:P(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;{})", own_account()?);
    let text: Vec<u16> = text.encode_utf16().chain([0]).collect();
    let mut path = [0u16; LONGEST];
    let room = u32::try_from(LONGEST).unwrap_or_default();
    let mut descriptor: PSECURITY_DESCRIPTOR = null_mut();
    // SAFETY: the handle is good while it is borrowed; the buffer is as long as is said, and ends in zero where it was long
    // enough; the list lies in the descriptor, which is freed once it was used.
    unsafe {
        let length = GetFinalPathNameByHandleW(file.as_raw_handle(), path.as_mut_ptr(), room, 0);
        if length == 0 {
            return Err(io::Error::last_os_error());
        }
        if length >= room {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        let revision = SDDL_REVISION_1;
        let made = ConvertStringSecurityDescriptorToSecurityDescriptorW(
            text.as_ptr(),
            revision,
            &mut descriptor,
            null_mut(),
        );
        if made == 0 {
            return Err(io::Error::last_os_error());
        }
        let (mut present, mut acl, mut defaulted) = (0, null_mut(), 0);
        let code = match GetSecurityDescriptorDacl(descriptor, &mut present, &mut acl, &mut defaulted) {
            0 => io::Error::last_os_error().raw_os_error().unwrap_or_default().cast_unsigned(),
            _ => {
                let what = DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION;
                let (owner, group) = (null_mut(), null_mut());
                SetNamedSecurityInfoW(path.as_ptr(), SE_FILE_OBJECT, what, owner, group, acl, null())
            }
        };
        LocalFree(descriptor);
        if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.cast_signed())) }
    }
}

/// Names are kept with the files, by the journal of the file system.
#[allow(clippy::unnecessary_wraps, reason = "other systems can refuse")]
pub(crate) fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

/// What to do where something is not permitted.
pub(crate) fn remedy(directory: &str) -> String {
    format!("run as administrator, or choose another state directory than {directory}")
}

fn blob(bytes: &[u8]) -> io::Result<CRYPT_INTEGER_BLOB> {
    let length = u32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(CRYPT_INTEGER_BLOB { cbData: length, pbData: bytes.as_ptr().cast_mut() })
}

fn empty() -> CRYPT_INTEGER_BLOB {
    CRYPT_INTEGER_BLOB { cbData: 0, pbData: null_mut() }
}

/// Takes over what the system made, and wipes it.
///
/// # Safety
/// `made` is what one of the two calls below filled in.
unsafe fn taken(made: &CRYPT_INTEGER_BLOB) -> Zeroizing<Vec<u8>> {
    // SAFETY: as the condition says: so many bytes of the system's, freed once.
    unsafe {
        let bytes = std::slice::from_raw_parts_mut(made.pbData, made.cbData as usize);
        let own = Zeroizing::new(bytes.to_vec());
        bytes.zeroize();
        LocalFree(made.pbData.cast());
        own
    }
}

/// A secret as it stands in a file.
pub(crate) fn seal(secret: &[u8]) -> io::Result<Zeroizing<String>> {
    let (secret, purpose, mut made) = (blob(secret)?, blob(PURPOSE)?, empty());
    // SAFETY: the blobs point to what outlives the call, which does not write to it.
    let sealed = unsafe {
        let done = CryptProtectData(
            &raw const secret,
            null(),
            &raw const purpose,
            null(),
            null(),
            CRYPTPROTECT_UI_FORBIDDEN,
            &raw mut made,
        );
        if done == 0 {
            return Err(io::Error::last_os_error());
        }
        taken(&made)
    };
    Ok(Zeroizing::new(format!("{SEALED}{}", STANDARD.encode(&*sealed))))
}

/// The secret of such a text. What is none is `InvalidData`.
pub(crate) fn unseal(text: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let text = text.strip_prefix(SEALED.as_bytes()).ok_or_else(malformed)?;
    let sealed = STANDARD.decode(text).map_err(|_| malformed())?;
    let (sealed, purpose, mut made) = (blob(&sealed)?, blob(PURPOSE)?, empty());
    // SAFETY: as above.
    unsafe {
        let done = CryptUnprotectData(
            &raw const sealed,
            null_mut(),
            &raw const purpose,
            null(),
            null(),
            CRYPTPROTECT_UI_FORBIDDEN,
            &raw mut made,
        );
        if done == 0 {
            let error = io::Error::last_os_error();
            let text = format!("it was sealed for another account or another machine ({error})");
            return Err(io::Error::other(text));
        }
        Ok(taken(&made))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const OWN: &str = "S-1-5-21-1-2-3-1001";
    const EVERYBODY: &str = "S-1-1-0";

    fn of(owner: &str, granted: &[(&str, u32)]) -> Rights {
        let granted = granted.iter().map(|(who, mask)| ((*who).to_owned(), *mask)).collect();
        Rights { owner: owner.to_owned(), granted: Some(granted) }
    }

    #[test]
    fn strangers_are_found() {
        let full = 0x1f_01ff;
        let reading = 0x12_0089;
        for (rights, change, secret) in [
            (of(OWN, &[(OWN, full), ("S-1-5-18", full), ("S-1-5-32-544", full)]), None, None),
            (of("S-1-5-18", &[("S-1-3-4", full)]), None, None),
            (of(OWN, &[(OWN, full), (EVERYBODY, reading)]), None, Some(EVERYBODY)),
            (of(OWN, &[(EVERYBODY, FILE_APPEND_DATA)]), Some(EVERYBODY), Some(EVERYBODY)),
            (of(OWN, &[(EVERYBODY, GENERIC_ALL)]), Some(EVERYBODY), Some(EVERYBODY)),
            (of("S-1-5-21-1-2-3-1002", &[]), Some("S-1-5-21-1-2-3-1002"), Some("S-1-5-21-1-2-3-1002")),
            (Rights { owner: OWN.to_owned(), granted: None }, Some("everybody"), Some("everybody")),
        ] {
            assert_eq!(stranger(&rights, OWN, CHANGE).as_deref(), change);
            assert_eq!(stranger(&rights, OWN, CHANGE | READ).as_deref(), secret);
        }
    }

    #[test]
    fn a_key_is_sealed_and_opened() {
        let key = [7; 32];
        let text = seal(&key).unwrap();
        assert!(text.starts_with(SEALED) && !text.contains(&STANDARD.encode(key)), "{text:?}");
        assert_eq!(*unseal(text.as_bytes()).unwrap(), key);
        for broken in ["", "dpapi:", "dpapi:AAAA", "nonsense", &STANDARD.encode(key)] {
            assert!(unseal(broken.as_bytes()).is_err(), "{broken}");
        }
        let other = seal(&[8; 32]).unwrap();
        assert_eq!(*unseal(other.as_bytes()).unwrap(), [8; 32]);
    }

    #[test]
    fn a_private_directory_is_its_owners() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("own");
        make_private(&path).unwrap();
        nobody_elses(&path, CHANGE).unwrap();
        assert_eq!(make_private(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(own_account().unwrap().starts_with("S-1-5-"));
    }
}

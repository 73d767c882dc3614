//! Calls of the system's security, each with a safe face.

use std::ffi::{OsStr, c_void};
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, GetLastError, HANDLE, LocalFree, MAX_PATH};
use windows_sys::Win32::NetworkManagement::NetManagement::{
    LOCALGROUP_MEMBERS_INFO_0, MAX_PREFERRED_LENGTH, NERR_Success, NetApiBufferFree, NetLocalGroupGetMembers,
};
use windows_sys::Win32::Security::Authorization::{
    ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW, ConvertStringSidToSidW,
    GetSecurityInfo, SDDL_REVISION_1, SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{
    CheckTokenMembership, CreateWellKnownSid, EqualSid, GetLengthSid, GetTokenInformation, IsValidSid,
    LookupAccountNameW, LookupAccountSidW, OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID,
    RevertToSelf, SECURITY_ATTRIBUTES, SECURITY_MAX_SID_SIZE, TOKEN_INFORMATION_CLASS, TOKEN_OWNER,
    TOKEN_QUERY, TokenOwner, TokenUser, WELL_KNOWN_SID_TYPE, WinBuiltinAdministratorsSid, WinLocalSystemSid,
};
use windows_sys::Win32::System::Pipes::ImpersonateNamedPipeClient;
use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, OpenProcessToken, OpenThreadToken,
};

const SID_SIZE: usize = SECURITY_MAX_SID_SIZE as usize;

pub(super) fn wide(text: impl AsRef<OsStr>) -> Vec<u16> {
    text.as_ref().encode_wide().chain([0]).collect()
}

/// A security identifier: a user or a group.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(align(4))]
pub struct Sid {
    bytes: [u8; SID_SIZE],
}

impl Sid {
    fn empty() -> Self {
        Self { bytes: [0; SID_SIZE] }
    }

    fn pointer(&self) -> PSID {
        self.bytes.as_ptr().cast_mut().cast()
    }

    /// # Safety
    /// `sid` is null or points to a security identifier.
    unsafe fn copy(sid: PSID) -> Option<Self> {
        // SAFETY: as this function's own condition says; the length is what the system says of a valid one.
        unsafe {
            if sid.is_null() || IsValidSid(sid) == 0 {
                return None;
            }
            let length = GetLengthSid(sid) as usize;
            let mut own = Self::empty();
            let from = std::slice::from_raw_parts(sid.cast::<u8>(), length);
            own.bytes.get_mut(..length)?.copy_from_slice(from);
            Some(own)
        }
    }

    fn well_known(kind: WELL_KNOWN_SID_TYPE) -> io::Result<Self> {
        let mut sid = Self::empty();
        let mut size = SECURITY_MAX_SID_SIZE;
        // SAFETY: the buffer is as long as `size` says, and outlives the call.
        match unsafe { CreateWellKnownSid(kind, null_mut(), sid.bytes.as_mut_ptr().cast(), &mut size) } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(sid),
        }
    }

    pub fn administrators() -> io::Result<Self> {
        Self::well_known(WinBuiltinAdministratorsSid)
    }

    pub fn system() -> io::Result<Self> {
        Self::well_known(WinLocalSystemSid)
    }

    /// The user or group of a name.
    pub fn named(name: &str) -> Option<Self> {
        let (name, mut sid) = (wide(name), Self::empty());
        let (mut size, mut length, mut kind) = (SECURITY_MAX_SID_SIZE, MAX_PATH, 0);
        let mut domain = [0u16; MAX_PATH as usize];
        // SAFETY: all buffers are as long as is said and outlive the call; the name ends in zero.
        let found = unsafe {
            LookupAccountNameW(
                null(),
                name.as_ptr(),
                sid.bytes.as_mut_ptr().cast(),
                &mut size,
                domain.as_mut_ptr(),
                &mut length,
                &mut kind,
            )
        };
        (found != 0).then_some(sid)
    }

    /// From the usual notation, such as `S-1-5-18`.
    pub fn parse(text: &str) -> Option<Self> {
        let text = wide(text);
        let mut sid = null_mut();
        // SAFETY: the text ends in zero; what the call allocates is freed once.
        unsafe {
            if ConvertStringSidToSidW(text.as_ptr(), &mut sid) == 0 {
                return None;
            }
            let own = Self::copy(sid);
            LocalFree(sid);
            own
        }
    }

    /// The account's name, if the system knows it.
    pub fn name(&self) -> Option<String> {
        let (mut name, mut domain) = ([0u16; MAX_PATH as usize], [0u16; MAX_PATH as usize]);
        let (mut length, mut domain_length, mut kind) = (MAX_PATH, MAX_PATH, 0);
        // SAFETY: all buffers are as long as is said and outlive the call; `self` holds a security identifier.
        let found = unsafe {
            LookupAccountSidW(
                null(),
                self.pointer(),
                name.as_mut_ptr(),
                &mut length,
                domain.as_mut_ptr(),
                &mut domain_length,
                &mut kind,
            )
        };
        (found != 0).then(|| String::from_utf16_lossy(name.get(..length as usize).unwrap_or_default()))
    }

    /// The members of a local group, as the user database has them now.
    pub fn is_in_group(&self, group: &str) -> bool {
        let group = wide(group);
        let (mut buffer, mut read, mut total) = (null_mut(), 0, 0);
        // SAFETY: the name ends in zero; the buffer is the system's, holds `read` entries, and is freed once.
        unsafe {
            let code = NetLocalGroupGetMembers(
                null(),
                group.as_ptr(),
                0,
                &mut buffer,
                MAX_PREFERRED_LENGTH,
                &mut read,
                &mut total,
                null_mut(),
            );
            if buffer.is_null() {
                return false;
            }
            let entries = buffer.cast::<LOCALGROUP_MEMBERS_INFO_0>();
            let member = code == NERR_Success
                && (0..read as usize).any(|at| EqualSid((*entries.add(at)).lgrmi0_sid, self.pointer()) != 0);
            NetApiBufferFree(buffer.cast());
            member
        }
    }
}

impl std::fmt::Display for Sid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = null_mut();
        // SAFETY: `self` holds a security identifier; the text ends in zero and is freed once.
        unsafe {
            if ConvertSidToStringSidW(self.pointer(), &mut text) == 0 {
                return f.write_str("S-?");
            }
            let length = (0..).take_while(|at| *text.add(*at) != 0).count();
            let shown = String::from_utf16_lossy(std::slice::from_raw_parts(text, length));
            LocalFree(text.cast());
            f.write_str(&shown)
        }
    }
}

impl std::fmt::Debug for Sid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// What a process or a client may do.
pub struct Token(OwnedHandle);

impl Token {
    /// This process's.
    pub fn own() -> io::Result<Self> {
        let mut token: HANDLE = null_mut();
        // SAFETY: the handle of this process is always good; the token is owned from here on.
        unsafe {
            match OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &mut token) {
                0 => Err(io::Error::last_os_error()),
                _ => Ok(Self(OwnedHandle::from_raw_handle(token))),
            }
        }
    }

    /// That of whoever wrote what was last read of a pipe.
    pub fn of_client(pipe: &impl AsRawHandle) -> io::Result<Self> {
        let mut token: HANDLE = null_mut();
        // SAFETY: the pipe's handle is good while it is borrowed. The thread is itself again before anything else is
        // done on it: whatever went on with the client's rights would be worse than an end.
        unsafe {
            if ImpersonateNamedPipeClient(pipe.as_raw_handle()) == 0 {
                return Err(io::Error::last_os_error());
            }
            let opened = OpenThreadToken(GetCurrentThread(), TOKEN_QUERY, 1, &mut token);
            let error = io::Error::last_os_error();
            if RevertToSelf() == 0 {
                std::process::abort();
            }
            match opened {
                0 => Err(error),
                _ => Ok(Self(OwnedHandle::from_raw_handle(token))),
            }
        }
    }

    /// Whose it is.
    pub fn user(&self) -> io::Result<Sid> {
        self.sid(TokenUser)
    }

    /// Who owns what is made with it: its user, or a group of theirs that may own things, such as administrators.
    pub fn owner(&self) -> io::Result<Sid> {
        self.sid(TokenOwner)
    }

    /// One of the two.
    fn sid(&self, which: TOKEN_INFORMATION_CLASS) -> io::Result<Sid> {
        // Room for a TOKEN_USER, or a TOKEN_OWNER, and the identifier that it begins with a pointer to, aligned for all.
        let mut room = [0u64; 16];
        let mut size = 0;
        // SAFETY: the buffer is as long as is said, and outlives the identifier within, which is copied.
        unsafe {
            let length = u32::try_from(size_of_val(&room)).unwrap_or_default();
            let buffer: *mut c_void = room.as_mut_ptr().cast();
            if GetTokenInformation(self.0.as_raw_handle(), which, buffer, length, &mut size) == 0 {
                return Err(io::Error::last_os_error());
            }
            Sid::copy((*room.as_ptr().cast::<TOKEN_OWNER>()).Owner)
                .ok_or_else(|| io::Error::from_raw_os_error(ERROR_INSUFFICIENT_BUFFER.cast_signed()))
        }
    }

    /// Whether it has a group's rights: an administrator's without elevation has not those of administrators. Of a
    /// client's token only.
    pub fn has(&self, group: &Sid) -> bool {
        let mut member = 0;
        // SAFETY: both are good while they are borrowed.
        let asked = unsafe { CheckTokenMembership(self.0.as_raw_handle(), group.pointer(), &mut member) };
        asked != 0 && member != 0
    }
}

/// Who owns an object of the kernel.
pub fn owner(object: &impl AsRawHandle) -> io::Result<Sid> {
    let (mut owner, mut descriptor): (PSID, PSECURITY_DESCRIPTOR) = (null_mut(), null_mut());
    // SAFETY: the handle is good while it is borrowed; the owner points into the descriptor, and is copied before that
    // is freed, once.
    unsafe {
        let code = GetSecurityInfo(
            object.as_raw_handle(),
            SE_KERNEL_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &mut owner,
            null_mut(),
            null_mut(),
            null_mut(),
            &mut descriptor,
        );
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code.cast_signed()));
        }
        let own = Sid::copy(owner);
        LocalFree(descriptor);
        own.ok_or_else(|| io::Error::other("an object without an owner"))
    }
}

/// What an object is made with so that only those may reach it who shall.
pub struct Descriptor {
    pointer: PSECURITY_DESCRIPTOR,
    attributes: SECURITY_ATTRIBUTES,
}

impl Descriptor {
    /// From the system's notation.
    pub fn parse(text: &str) -> io::Result<Self> {
        let text = wide(text);
        let mut pointer = null_mut();
        // SAFETY: the text ends in zero.
        let made = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                text.as_ptr(),
                SDDL_REVISION_1,
                &mut pointer,
                null_mut(),
            )
        };
        if made == 0 {
            // SAFETY: asks for a number of this thread.
            return Err(io::Error::from_raw_os_error(unsafe { GetLastError() }.cast_signed()));
        }
        let length = u32::try_from(size_of::<SECURITY_ATTRIBUTES>()).unwrap_or_default();
        let attributes =
            SECURITY_ATTRIBUTES { nLength: length, lpSecurityDescriptor: pointer, bInheritHandle: 0 };
        Ok(Self { pointer, attributes })
    }

    /// For calls of the system; good for as long as this lives.
    pub fn attributes(&mut self) -> *mut c_void {
        (&raw mut self.attributes).cast()
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: the system allocated it so, and it is freed once.
        unsafe {
            LocalFree(self.pointer);
        }
    }
}

// SAFETY: memory that is only read, and that belongs to no thread.
unsafe impl Send for Descriptor {}

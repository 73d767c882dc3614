//! Objects of COM, as far as the list of networks takes them: methods by their places in tables, which never change.

use std::ffi::c_void;
use std::ptr::{null, null_mut};

use windows_sys::Win32::Foundation::{SysFreeString, SysStringLen};
use windows_sys::Win32::System::Com::{CLSCTX_ALL, COINIT_MULTITHREADED, CoCreateInstance, CoInitializeEx};
use windows_sys::core::{BSTR, GUID, HRESULT};

/// `NetworkListManager`, `INetworkListManager` and `INetworkConnectionCost` (`netlistmgr.h`).
pub(super) const CLASS: GUID = GUID::from_u128(0xdcb00c01_570f_4a9b_8d69_199fdba5723b);
pub(super) const LIST: GUID = GUID::from_u128(0xdcb00000_570f_4a9b_8d69_199fdba5723b);
pub(super) const COST: GUID = GUID::from_u128(0xdcb0000a_570f_4a9b_8d69_199fdba5723b);

/// Of every object (`IUnknown`).
const QUERY_INTERFACE: usize = 0;
const RELEASE: usize = 2;
/// After those of `IDispatch`: of the list, of what enumerates connections, of a connection, and of a network.
pub(super) const GET_CONNECTIONS: usize = 9;
const NEXT: usize = 8;
pub(super) const GET_NETWORK: usize = 7;
pub(super) const GET_ADAPTER_ID: usize = 12;
pub(super) const GET_NAME: usize = 7;
/// After those of `IUnknown`.
pub(super) const GET_COST: usize = 3;

type Query = unsafe extern "system" fn(*mut c_void, *const GUID, *mut *mut c_void) -> HRESULT;
type Release = unsafe extern "system" fn(*mut c_void) -> u32;
type GetObject = unsafe extern "system" fn(*mut c_void, *mut *mut c_void) -> HRESULT;
type GetText = unsafe extern "system" fn(*mut c_void, *mut BSTR) -> HRESULT;
type Next = unsafe extern "system" fn(*mut c_void, u32, *mut *mut c_void, *mut u32) -> HRESULT;
pub(super) type GetGuid = unsafe extern "system" fn(*mut c_void, *mut GUID) -> HRESULT;
pub(super) type GetNumber = unsafe extern "system" fn(*mut c_void, *mut u32) -> HRESULT;

/// Has this thread speak COM, until it ends.
pub(super) fn begin() {
    // SAFETY: nothing is handed over.
    let code = unsafe { CoInitializeEx(null(), COINIT_MULTITHREADED.cast_unsigned()) };
    if code < 0 {
        tracing::debug!(code, "what networks cost is not known");
    }
}

/// An object, let go of when this is dropped. It stays on its thread.
pub(super) struct Object(pub *mut c_void);

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: it is an object that nobody else lets go of for this.
        unsafe { self.method::<Release>(RELEASE)(self.0) };
    }
}

impl Object {
    /// Makes an object of a class.
    ///
    /// # Errors
    /// What the system says.
    pub fn make(class: &GUID, interface: &GUID) -> Result<Self, HRESULT> {
        let mut made = null_mut();
        // SAFETY: all outlives the call.
        let code = unsafe { CoCreateInstance(class, null_mut(), CLSCTX_ALL, interface, &mut made) };
        Self::of(code, made)
    }

    fn of(code: HRESULT, object: *mut c_void) -> Result<Self, HRESULT> {
        if code < 0 || object.is_null() { Err(code) } else { Ok(Self(object)) }
    }

    /// # Safety
    /// The object's table has a method of type `F` at this place.
    pub unsafe fn method<F: Copy>(&self, place: usize) -> F {
        const { assert!(size_of::<F>() == size_of::<*const c_void>()) };
        // SAFETY: an object begins with where its table is, which has such a method there.
        unsafe { (*self.0.cast::<*const *const c_void>()).add(place).cast::<F>().read() }
    }

    /// The same object by another interface, if it has that.
    pub fn query(&self, interface: &GUID) -> Option<Self> {
        let mut found = null_mut();
        // SAFETY: every object has this method; all outlives the call.
        let code = unsafe { self.method::<Query>(QUERY_INTERFACE)(self.0, interface, &mut found) };
        Self::of(code, found).ok()
    }

    /// What a method hands out.
    ///
    /// # Safety
    /// The method at this place takes nothing, and hands out an object.
    pub unsafe fn get(&self, place: usize) -> Result<Self, HRESULT> {
        let mut found = null_mut();
        // SAFETY: as the condition says.
        let code = unsafe { self.method::<GetObject>(place)(self.0, &mut found) };
        Self::of(code, found)
    }

    /// A text that a method hands out.
    ///
    /// # Safety
    /// The method at this place takes nothing, and hands out a text.
    pub unsafe fn text(&self, place: usize) -> Option<String> {
        let mut text: BSTR = null();
        // SAFETY: as the condition says; the text has as many characters as is said, and is freed once it is copied.
        unsafe {
            if self.method::<GetText>(place)(self.0, &mut text) < 0 || text.is_null() {
                return None;
            }
            let characters = std::slice::from_raw_parts(text, SysStringLen(text) as usize);
            let copied = String::from_utf16_lossy(characters);
            SysFreeString(text);
            Some(copied)
        }
    }

    /// The next object of an enumeration.
    ///
    /// # Safety
    /// It enumerates the connections of the list of networks.
    pub unsafe fn next(&self) -> Option<Self> {
        let (mut found, mut count) = (null_mut(), 0);
        // SAFETY: as the condition says; there is room for one.
        let code = unsafe { self.method::<Next>(NEXT)(self.0, 1, &mut found, &mut count) };
        Self::of(code, found).ok()
    }
}

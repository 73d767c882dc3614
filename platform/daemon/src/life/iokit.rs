//! Has macOS say when it sleeps and wakes: IOKit, of which this is all that is called.

use std::ffi::{c_char, c_void};
use std::io;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};

use super::power::{self, Ear, Power};

/// `IOServiceInterestCallback` of `IOKit/IOKitLib.h`.
type Callback = unsafe extern "C" fn(*mut c_void, u32, u32, *mut c_void);

// As in `IOKit/pwr_mgt/IOPMLib.h` and `IOKit/IOKitLib.h`: ports and messages are of 32 bits, what is given back of a message
// is as wide as a pointer.
#[link(name = "IOKit", kind = "framework")]
unsafe extern "C" {
    fn IORegisterForSystemPower(
        context: *mut c_void,
        port: *mut *mut c_void,
        callback: Callback,
        notifier: *mut u32,
    ) -> u32;
    fn IOAllowPowerChange(root: u32, id: isize) -> i32;
    fn IONotificationPortSetDispatchQueue(port: *mut c_void, queue: *mut c_void);
}

// `dispatch/queue.h`. A queue without attributes does one thing after the other.
unsafe extern "C" {
    fn dispatch_queue_create(label: *const c_char, attributes: *mut c_void) -> *mut c_void;
}

/// Lives as long as the process: the system may call at any time.
struct Registered {
    ear: Ear,
    /// The connection by which the system is answered.
    root: AtomicU32,
}

unsafe extern "C" fn heard(context: *mut c_void, _service: u32, message: u32, id: *mut c_void) {
    // SAFETY: this is what was registered, which is never freed.
    let registered = unsafe { &*context.cast::<Registered>() };
    registered.ear.hear(message, || {
        // SAFETY: the connection is never closed, and the number is that of the message.
        let _ = unsafe { IOAllowPowerChange(registered.root.load(Ordering::Acquire), id as isize) };
    });
}

/// Listens from now on, for as long as the process lives.
///
/// # Errors
/// When the system does not let it.
pub(super) fn listen() -> io::Result<Power> {
    let (ear, power) = power::ends();
    let registered: &'static Registered = Box::leak(Box::new(Registered { ear, root: AtomicU32::new(0) }));
    let (mut port, mut notifier) = (null_mut(), 0);
    // SAFETY: what is registered lives for ever, and the two places outlive the call.
    let root = unsafe {
        IORegisterForSystemPower(
            std::ptr::from_ref(registered).cast_mut().cast(),
            &raw mut port,
            heard,
            &raw mut notifier,
        )
    };
    if root == 0 || port.is_null() {
        return Err(io::Error::other("IORegisterForSystemPower refused"));
    }
    registered.root.store(root, Ordering::Release);
    // SAFETY: the label ends with a zero, and there are no attributes.
    let queue = unsafe { dispatch_queue_create(c"org.mast.mastd.power".as_ptr(), null_mut()) };
    if queue.is_null() {
        return Err(io::Error::other("dispatch_queue_create refused"));
    }
    // SAFETY: both are what the system gave, and are never released. Only now does it call.
    unsafe { IONotificationPortSetDispatchQueue(port, queue) };
    Ok(power)
}

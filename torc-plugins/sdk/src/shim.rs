//! What torc calls in a library: turns calls of C into those of an [`Interface`].
//!
//! Invariant: no panic leaves it; one becomes `PANIC`, with its words.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::abi::{Buffer, Bytes, HostTable, LONGEST_MESSAGE, Vtable, status};
use crate::host::encode;
use crate::{Call, Failure, Host, Interface, Reply};

/// Instances of one interface.
struct Instance<I> {
    interface: I,
    host: Host,
}

/// The functions of an interface, for a descriptor.
pub const fn vtable<I: Interface>() -> Vtable {
    Vtable {
        // A size that no version of it will exceed.
        struct_size: size_of::<Vtable>() as u32,
        reserved: 0,
        open: Some(open::<I>),
        call: Some(call::<I>),
        close: Some(close::<I>),
    }
}

unsafe extern "C" fn open<I: Interface>(
    table: *const HostTable,
    instance: u64,
    config: Bytes,
    this: *mut *mut c_void,
    error: *mut Buffer,
) -> i32 {
    let opened = caught(|| {
        // SAFETY: torc's, for the length of this call.
        let (host, config) = unsafe { (Host::new(table, instance), config.read(LONGEST_MESSAGE)) };
        let config =
            config.map_err(|_| Failure::Invalid("the settings are too long".to_owned()))?;
        let settings = serde_json::from_slice(config)
            .map_err(|error| Failure::Invalid(format!("the settings are no JSON: {error}")))?;
        Ok((I::open(settings, host)?, host))
    });
    let (code, words) = match opened {
        Ok(Ok((interface, host))) => {
            // SAFETY: torc's place for it.
            unsafe { *this = Box::into_raw(Box::new(Instance { interface, host })).cast() };
            return status::OK;
        }
        Ok(Err(failure)) => encode(Err(failure)),
        Err(words) => (status::PANIC, words),
    };
    // SAFETY: torc's place for it.
    unsafe { error.write(Buffer::from_vec(words)) };
    code
}

unsafe extern "C" fn call<I: Interface>(
    this: *mut c_void,
    op: u64,
    method: Bytes,
    request: Bytes,
    deadline_ms: u64,
    out: *mut Buffer,
) -> i32 {
    let answered = caught(|| {
        // SAFETY: it came from `open`, and torc calls an instance from one thread at a time.
        let instance = unsafe { &mut *this.cast::<Instance<I>>() };
        // SAFETY: torc's, for the length of this call.
        let (method, request) =
            unsafe { (method.read(LONGEST_MESSAGE), request.read(LONGEST_MESSAGE)) };
        let too_long = |_| Failure::Invalid("the request is too long".to_owned());
        let (method, request) = (method.map_err(too_long)?, request.map_err(too_long)?);
        let method = std::str::from_utf8(method)
            .map_err(|_| Failure::Invalid("the method's name is not UTF-8".to_owned()))?;
        let deadline = Duration::from_millis(deadline_ms);
        instance.interface.call(method, request, Call { op, deadline, host: instance.host })
    });
    let (code, bytes) = match answered {
        Ok(Ok(Reply::Later)) => return status::PENDING,
        Ok(Ok(Reply::Now(answer))) => (status::OK, answer),
        Ok(Err(failure)) => encode(Err(failure)),
        Err(words) => (status::PANIC, words),
    };
    // SAFETY: torc's place for it.
    unsafe { out.write(Buffer::from_vec(bytes)) };
    code
}

unsafe extern "C" fn close<I: Interface>(this: *mut c_void, grace_ms: u64) -> i32 {
    let closed = caught(|| {
        // SAFETY: it came from `open`, and torc closes an instance once.
        let instance = unsafe { Box::from_raw(this.cast::<Instance<I>>()) };
        instance.interface.close(Duration::from_millis(grace_ms));
    });
    if closed.is_ok() { status::OK } else { status::PANIC }
}

/// What a function came to, or the words of its panic.
fn caught<T>(function: impl FnOnce() -> T) -> Result<T, Vec<u8>> {
    catch_unwind(AssertUnwindSafe(function)).map_err(|panic| {
        let words = words_of(&*panic).as_bytes().to_vec();
        // What a panic carries may itself panic when it is dropped.
        std::mem::forget(panic);
        words
    })
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why")
}

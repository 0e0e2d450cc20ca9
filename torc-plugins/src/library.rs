//! Plugins that are shared libraries: loaded, looked at, called.
//!
//! Owns: the library's descriptor, read before anything is called. Does not know: whether the file is to be trusted,
//! what the messages say. Invariants: nothing of the plugin runs before its descriptor was read, but for what the
//! system's loader runs; a library is never unloaded, since a thread of it may be in it.

use std::ffi::{CStr, c_char, c_void};
use std::path::Path;
use std::ptr;
use std::time::Duration;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use serde_json::Value;
use torc_plugin::abi::{
    ABI_MAJOR, Buffer, Bytes, Descriptor, InterfaceEntry, LONGEST_MESSAGE, MAGIC, SYMBOL, Vtable,
    status,
};

use crate::about::About;
use crate::calls::{Answer, HOST};
use crate::error::{Fault, PluginError};
use crate::instance::{Backend, Killer, fault_of};

/// Not to be unloaded (dlopen(3)). The same number on all architectures of Linux but MIPS.
const RTLD_NODELETE: i32 = 0x1000;
/// Interfaces of one library, at most.
const MOST_INTERFACES: u32 = 64;

/// A library that was loaded, and what it says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) about: About,
    interfaces: Vec<(String, Vtable)>,
}

impl Loaded {
    /// Loads a library. It must be trusted by now.
    ///
    /// # Errors
    /// When it cannot be loaded, or is no plugin for this torc.
    pub(crate) fn load(path: &Path) -> Result<Self, PluginError> {
        let not_loaded =
            |reason: String| PluginError::NotLoaded { path: path.to_path_buf(), reason };
        if cfg!(target_feature = "crt-static") {
            let reason = "this torc is linked statically, and cannot load shared libraries; use one that is \
                          not, or a plugin that is a program";
            return Err(not_loaded(reason.to_owned()));
        }
        // SAFETY: what the library runs when it is loaded is the business of whoever trusted it.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) };
        let library = library.map_err(|error| not_loaded(error.to_string()))?;
        // SAFETY: only its address is used before what is there was looked at.
        let symbol = unsafe { library.get::<*const Descriptor>(SYMBOL.as_bytes()) };
        let descriptor = symbol
            .map(|symbol| symbol.into_raw().cast::<Descriptor>().cast_const())
            .map_err(|_| not_loaded(format!("it does not export `{SYMBOL}`")))?;
        // It stays loaded for ever.
        std::mem::forget(library);
        // SAFETY: the symbol is an object of the library that begins like a descriptor.
        unsafe { read(descriptor) }
            .map_err(|reason| PluginError::BadDescriptor { path: path.to_path_buf(), reason })
    }

    /// What makes instances for an interface.
    pub(crate) fn backend(&self, interface: &str) -> Option<LibraryBackend> {
        let (_, vtable) = self.interfaces.iter().find(|(id, _)| id == interface)?;
        Some(LibraryBackend { vtable: *vtable, this: None })
    }
}

/// Reads what a library says of itself.
///
/// # Safety
/// The object has at least the 24 bytes that are the same in all versions, and what follows is as they say.
unsafe fn read(descriptor: *const Descriptor) -> Result<Loaded, String> {
    // SAFETY: the caller's promise; the fields are read one by one since an older one may be shorter than the type.
    let (magic, major, minor, size, count) = unsafe {
        let at = descriptor;
        (
            ptr::read_unaligned(&raw const (*at).magic),
            ptr::read_unaligned(&raw const (*at).abi_major),
            ptr::read_unaligned(&raw const (*at).abi_minor),
            ptr::read_unaligned(&raw const (*at).struct_size),
            ptr::read_unaligned(&raw const (*at).interface_count),
        )
    };
    if magic != MAGIC {
        return Err(format!("what it exports as `{SYMBOL}` does not begin with TORCPLG"));
    }
    if major != ABI_MAJOR {
        return Err(format!(
            "it was built for version {major} of the plugin boundary, and this torc has version {ABI_MAJOR}"
        ));
    }
    let known = std::mem::offset_of!(Descriptor, info);
    if (size as usize) < known {
        return Err(format!("its descriptor has {size} bytes, and version 1 has {known} at least"));
    }
    if count > MOST_INTERFACES {
        return Err(format!("it has {count} interfaces, and {MOST_INTERFACES} are the most"));
    }
    // SAFETY: the library says that the descriptor is so long; pointers of it are null or as the contract says.
    unsafe {
        let copy: Descriptor = copied(descriptor, size);
        let name = text(copy.name, "name")?.ok_or("it has no name")?;
        let version = text(copy.version, "version")?.ok_or("it has no version")?;
        let info = text(copy.info, "info")?;
        let interfaces = interfaces(copy.interfaces, count)?;
        let ids = interfaces.iter().map(|(id, _)| id.clone()).collect();
        let about = About::new(name, version, (major, minor), ids, info.as_deref())?;
        Ok(Loaded { about, interfaces })
    }
}

/// As much of a structure as is there; the rest is zero.
///
/// # Safety
/// `size` bytes can be read, and a `T` may be all zeroes.
unsafe fn copied<T>(from: *const T, size: u32) -> T {
    let mut copy = std::mem::MaybeUninit::<T>::zeroed();
    let size = size_of::<T>().min(size as usize);
    // SAFETY: the caller's promise, and no more than fits.
    unsafe {
        ptr::copy_nonoverlapping(from.cast::<u8>(), copy.as_mut_ptr().cast::<u8>(), size);
        copy.assume_init()
    }
}

/// # Safety
/// It is null, or text that ends with NUL.
unsafe fn text(text: *const c_char, what: &str) -> Result<Option<String>, String> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) };
    let text = bytes.to_str().map_err(|_| format!("its {what} is not UTF-8"))?;
    Ok(Some(text.to_owned()))
}

/// # Safety
/// It points to so many entries, each with pointers as the contract says.
unsafe fn interfaces(
    entries: *const InterfaceEntry,
    count: u32,
) -> Result<Vec<(String, Vtable)>, String> {
    let mut interfaces = Vec::new();
    if entries.is_null() && count > 0 {
        return Err(format!("it says that it has {count} interfaces, and has none"));
    }
    for index in 0..count as usize {
        // SAFETY: the caller's promise.
        let (id, vtable) = unsafe {
            let entry = ptr::read_unaligned(entries.add(index));
            (text(entry.id, "an interface's name")?, entry.vtable)
        };
        let id = id.ok_or_else(|| format!("its interface {} has no name", index + 1))?;
        if vtable.is_null() {
            return Err(format!("its interface {id} has no functions"));
        }
        // SAFETY: the first field is there in all versions, and says how much more is.
        let vtable: Vtable = unsafe {
            let size = ptr::read_unaligned(&raw const (*vtable).struct_size);
            copied(vtable, size)
        };
        if vtable.open.is_none() || vtable.call.is_none() || vtable.close.is_none() {
            return Err(format!("its interface {id} lacks `open`, `call` or `close`"));
        }
        interfaces.push((id, vtable));
    }
    Ok(interfaces)
}

/// Calls a library.
pub(crate) struct LibraryBackend {
    vtable: Vtable,
    /// What `open` gave.
    this: Option<*mut c_void>,
}

// SAFETY: the contract: an instance is called from one thread at a time, whichever that is.
unsafe impl Send for LibraryBackend {}

impl Backend for LibraryBackend {
    fn runs_here(&self) -> bool {
        true
    }

    fn killer(&self) -> Option<Killer> {
        None
    }

    fn open(&mut self, instance: u64, config: &[u8]) -> Result<(), Fault> {
        let Some(open) = self.vtable.open else { return Err(Fault::Unsupported) };
        let (mut this, mut error) = (ptr::null_mut(), Buffer::EMPTY);
        // SAFETY: the contract; the host's table is static.
        let code = unsafe {
            open(&raw const HOST, instance, Bytes::lend(config), &raw mut this, &raw mut error)
        };
        // SAFETY: a buffer that is handed out is ours.
        let words = unsafe { error.take(LONGEST_MESSAGE) }.unwrap_or_default();
        if code == status::OK {
            self.this = Some(this);
            return Ok(());
        }
        Err(fault_of(Answer::Given(code, words)))
    }

    fn call(
        &mut self,
        op: u64,
        method: &str,
        request: &[u8],
        deadline: Duration,
    ) -> Option<Answer> {
        let (Some(call), Some(this)) = (self.vtable.call, self.this) else {
            return Some(Answer::Given(status::FATAL, b"it was not opened".to_vec()));
        };
        let mut out = Buffer::EMPTY;
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        // SAFETY: the contract; this thread is the only one that calls the instance.
        let code = unsafe {
            call(
                this,
                op,
                Bytes::lend(method.as_bytes()),
                Bytes::lend(request),
                deadline_ms,
                &raw mut out,
            )
        };
        // SAFETY: a buffer that is handed out is ours.
        let taken = unsafe { out.take(LONGEST_MESSAGE) };
        match taken {
            Ok(_) if code == status::PENDING => None,
            Ok(bytes) => Some(Answer::Given(code, bytes)),
            Err(too_long) => Some(Answer::TooLong(too_long.len)),
        }
    }

    fn close(&mut self, grace: Duration) {
        let (Some(close), Some(this)) = (self.vtable.close, self.this.take()) else { return };
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        // SAFETY: the contract; it is not called any more.
        let code = unsafe { close(this, grace_ms) };
        if code != status::OK {
            tracing::warn!(code, "a plugin did not close well");
        }
    }
}

impl About {
    fn new(
        name: String,
        version: String,
        abi: (u32, u32),
        interfaces: Vec<String>,
        info: Option<&str>,
    ) -> Result<Self, String> {
        let info: Value = match info {
            None => Value::Null,
            Some(info) => serde_json::from_str(info)
                .map_err(|error| format!("its information is no JSON: {error}"))?,
        };
        Self::checked(name, version, abi, interfaces, info)
    }
}

//! Bytes that change hands across the boundary, each released once.

use std::ffi::c_void;

use crate::abi::{Buffer, Bytes};

impl Buffer {
    /// Nothing.
    pub const EMPTY: Self =
        Self { ptr: std::ptr::null(), len: 0, owner: std::ptr::null_mut(), release: None };

    /// Bytes that are freed when they are released.
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        let owner = Box::new(bytes);
        let (ptr, len) = (owner.as_ptr(), owner.len());
        Self { ptr, len, owner: Box::into_raw(owner).cast(), release: Some(free) }
    }

    /// Copies the bytes and releases them.
    ///
    /// # Safety
    /// As for [`Bytes::read`], and nobody else releases it.
    ///
    /// # Errors
    /// When there are more than `most`; they are released, too.
    pub unsafe fn take(mut self, most: usize) -> Result<Vec<u8>, TooLong> {
        let bytes = Bytes { ptr: self.ptr, len: self.len };
        // SAFETY: the caller's promise; it is released after that.
        let copied = unsafe { bytes.read(most) }.map(<[u8]>::to_vec);
        if let Some(release) = self.release.take() {
            // SAFETY: the caller's promise that it was not released before.
            unsafe { release(&raw mut self) };
        }
        copied
    }
}

/// A message has more bytes than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// How many.
    pub len: usize,
}

impl Bytes {
    /// Lends bytes.
    pub fn lend(bytes: &[u8]) -> Self {
        Self { ptr: bytes.as_ptr(), len: bytes.len() }
    }

    /// The bytes themselves.
    ///
    /// # Safety
    /// `ptr` points to `len` bytes that stay as they are for as long as the result is used, or `len` is 0.
    ///
    /// # Errors
    /// When there are more than `most`.
    pub unsafe fn read<'b>(self, most: usize) -> Result<&'b [u8], TooLong> {
        if self.len > most {
            return Err(TooLong { len: self.len });
        }
        if self.ptr.is_null() || self.len == 0 {
            return Ok(&[]);
        }
        // SAFETY: the caller's promise, and it is not null.
        Ok(unsafe { std::slice::from_raw_parts(self.ptr, self.len) })
    }
}

/// Frees what [`Buffer::from_vec`] was made of.
unsafe extern "C" fn free(buffer: *mut Buffer) {
    // SAFETY: whoever calls `release` hands its own buffer over, once.
    let owner: *mut c_void =
        unsafe { std::mem::replace(&mut (*buffer).owner, std::ptr::null_mut()) };
    if !owner.is_null() {
        // SAFETY: it came from a box of this type, and is taken out of the buffer.
        drop(unsafe { Box::from_raw(owner.cast::<Vec<u8>>()) });
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A misc device whose open files are `Arc`s, modelled on the later `kernel::miscdevice`.

use super::{area::Area, c, lines::Lines, notify::Poll, params, process::Caller};
use core::{
    marker::PhantomData,
    mem::{self, MaybeUninit},
};
use kernel::bindings;
use kernel::error::{from_result, to_result};
use kernel::ffi::{c_int, c_long, c_uint, c_ulong, c_void};
use kernel::prelude::*;
use kernel::sync::{Arc, ArcBorrow};
use kernel::types::{ForeignOwnable, Opaque};

/// The operations of an open file of the device.
pub(crate) trait Device: Send + Sync + Sized + 'static {
    /// The object that mappings of the file belong to.
    type Mapping: Mapped;
    /// Data that all open files share.
    type Shared: Send + Sync;

    /// The ioctl that waits as flexsc_wait(2) does. Security modules are asked about this one.
    const WAIT: u32;

    /// open(2).
    fn open(shared: &Self::Shared) -> Result<Arc<Self>>;
    /// ioctl(2), from 64-bit programs. There is no `caller` within a posted call.
    fn ioctl(
        this: ArcBorrow<'_, Self>,
        caller: Option<Caller>,
        cmd: u32,
        arg: usize,
    ) -> Result<isize>;
    /// flexsc_wait(2).
    fn wait(this: ArcBorrow<'_, Self>, caller: Option<Caller>, arg: usize) -> Result<isize>;
    /// mmap(2): returns the memory that begins at this page offset of the file.
    fn area(this: ArcBorrow<'_, Self>, page_offset: usize) -> Result<Arc<Self::Mapping>>;
    /// poll(2): waits with `poll`, then returns true if there is something to read.
    fn is_readable(this: ArcBorrow<'_, Self>, poll: &Poll) -> Result<bool>;
    /// `/proc/PID/fdinfo/FD`.
    fn show(this: ArcBorrow<'_, Self>, lines: &Lines);
    /// Called when the last descriptor and the last mapping are gone.
    fn release(this: Arc<Self>, closed: &Closed);
}

/// Proof that a device's file is closed: no request to it is under way or will come.
///
/// # Invariants
///
/// Created by the last operation on the file, and does not outlive it.
pub(crate) struct Closed(());

/// Memory that programs map from a device's files, and that counts its mappings.
pub(crate) trait Mapped: AsRef<Area> + Send + Sync + 'static {
    /// Returns the page offset in the file at which the memory begins.
    fn page_offset(&self) -> usize;
    /// mmap(2) is about to map the memory. Fails with `EINVAL` if it must no longer be mapped.
    fn map(&self) -> Result;
    /// A mapping was added: a part or a copy of another one.
    fn map_again(&self);
    /// A mapping is gone. Called with the address space locked.
    fn unmap(&self);
}

/// A registered device, deregistered on drop.
///
/// # Invariants
///
/// `inner` is registered, and `shared` lives at least as long.
#[pin_data(PinnedDrop)]
pub(crate) struct Registration<T: Device> {
    #[pin]
    inner: Opaque<bindings::miscdevice>,
    shared: T::Shared,
    _t: PhantomData<T>,
}

// SAFETY: It may be deregistered from any thread.
unsafe impl<T: Device> Send for Registration<T> {}
// SAFETY: A shared reference gives nothing but shared references to `shared`.
unsafe impl<T: Device> Sync for Registration<T> {}

impl<T: Device> Registration<T> {
    pub(crate) fn register(name: &'static CStr, shared: T::Shared) -> impl PinInit<Self, Error> {
        // In this order: files may be opened before `register` returns.
        try_pin_init!(Self {
            shared,
            inner <- Self::init(name),
            _t: PhantomData,
        })
    }

    fn init(name: &'static CStr) -> impl PinInit<Opaque<bindings::miscdevice>, Error> {
        let init = move |slot: *mut Opaque<bindings::miscdevice>| {
            // SAFETY: All zeroes is a valid `miscdevice`.
            let mut device = unsafe { MaybeUninit::<bindings::miscdevice>::zeroed().assume_init() };
            device.minor = bindings::MISC_DYNAMIC_MINOR as _;
            device.name = name.as_char_ptr();
            device.fops = &Vtable::<T>::TABLE.0;
            device.mode = params::device_mode();
            let (ioctl, wait) = (Vtable::<T>::ioctl, Vtable::<T>::wait);
            // SAFETY: The operations are this module's, and no file is open yet.
            unsafe {
                bindings::syscall_wait_register(device.fops, Some(ioctl), T::WAIT, Some(wait))
            };
            let slot = Opaque::raw_get(slot);
            // SAFETY: `slot` is valid for writes.
            unsafe { slot.write(device) };
            // SAFETY: It is pinned and filled in.
            let ret = to_result(unsafe { bindings::misc_register(slot) });
            if ret.is_err() {
                // SAFETY: No file was opened.
                unsafe { bindings::syscall_wait_unregister() };
            }
            ret
        };
        // SAFETY: `init` fills in the whole, or registers nothing if it fails; an `Opaque` may
        // hold anything.
        unsafe { kernel::init::pin_init_from_closure(init) }
    }
}

#[pinned_drop]
impl<T: Device> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant it is registered.
        unsafe { bindings::misc_deregister(self.inner.get()) };
        // SAFETY: The module is being unloaded, so that no file is open.
        unsafe { bindings::syscall_wait_unregister() };
    }
}

struct Table(bindings::file_operations);

// SAFETY: The table is constant.
unsafe impl Sync for Table {}

struct MappingTable(bindings::vm_operations_struct);

// SAFETY: The table is constant.
unsafe impl Sync for MappingTable {}

struct Vtable<T>(PhantomData<T>);

impl<T: Device> Vtable<T> {
    const TABLE: &'static Table = &Table(bindings::file_operations {
        owner: super::this_module(),
        open: Some(Self::open),
        release: Some(Self::release),
        // Calls `Self::ioctl` with a reference to the file.
        unlocked_ioctl: Some(bindings::syscall_wait_ioctl),
        mmap: Some(Self::mmap),
        poll: Some(Self::poll),
        show_fdinfo: Some(Self::show_fdinfo),
        // SAFETY: All zeroes is a valid `file_operations`.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    });

    const MAPPING_TABLE: &'static MappingTable = &MappingTable(bindings::vm_operations_struct {
        open: Some(Self::mapping_open),
        close: Some(Self::mapping_close),
        access: Some(Self::mapping_access),
        // SAFETY: All zeroes is a valid `vm_operations_struct`.
        ..unsafe { MaybeUninit::zeroed().assume_init() }
    });

    /// # Safety
    ///
    /// `file` is an open file of this device, and stays open as long as the borrow is used.
    unsafe fn borrow<'a>(file: *mut bindings::file) -> ArcBorrow<'a, T> {
        // SAFETY: `open` has stored an `Arc<T>`, which `release`, called last, takes back.
        unsafe { Arc::<T>::borrow((*file).private_data) }
    }

    /// # Safety
    ///
    /// Called by misc_open() for a device of a `Registration<T>`, with a file that is being opened.
    unsafe extern "C" fn open(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The file is being opened; misc_open() has stored the device.
        let device = unsafe { (*file).private_data }.cast::<Opaque<bindings::miscdevice>>();
        // SAFETY: The device is the `inner` of a `Registration<T>`, by whose invariant it stays
        // until it is deregistered, and misc_deregister() waits for misc_open().
        let registration = unsafe { &*kernel::container_of!(device, Registration<T>, inner) };
        match T::open(&registration.shared) {
            Ok(this) => {
                // SAFETY: The file is being opened, no other task uses it.
                unsafe { (*file).private_data = this.into_foreign().cast_mut() };
                0
            }
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    ///
    /// Called by the VFS as the last operation on a file that `open` has opened.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: Stored by `open`; this is the last call for the file.
        let this = unsafe { Arc::<T>::from_foreign((*file).private_data) };
        // INVARIANT: This is the last operation.
        T::release(this, &Closed(()));
        0
    }

    /// # Safety
    ///
    /// Called by syscall_wait_ioctl() with an open file of this device, to which the caller holds a
    /// reference.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: The core passes an open file of this device, with a reference.
        let this = unsafe { Self::borrow(file) };
        match T::ioctl(this, Caller::of_request(), cmd, arg as usize) {
            Ok(ret) => ret as c_long,
            Err(e) => e.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// Called by flexsc_wait(2) with an open file of this device, to which the caller holds a
    /// reference.
    unsafe extern "C" fn wait(file: *mut bindings::file, arg: c_ulong) -> c_long {
        // SAFETY: The core passes an open file of this device, with a reference.
        let this = unsafe { Self::borrow(file) };
        match T::wait(this, Caller::of_request(), arg as usize) {
            Ok(ret) => ret as c_long,
            Err(e) => e.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with an open file of this device, to which the caller holds a reference,
    /// and a mapping of it that is being made, with the address space locked for writing.
    unsafe extern "C" fn mmap(
        file: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        // SAFETY: The VFS passes a mapping that is being made, locked for writing.
        let (offset, len) = unsafe {
            let range = (*vma).__bindgen_anon_1.__bindgen_anon_1;
            (
                (*vma).vm_pgoff as usize,
                (range.vm_end - range.vm_start) as usize,
            )
        };
        from_result(|| {
            // SAFETY: The VFS passes an open file of this device, with a reference.
            let owner = T::area(unsafe { Self::borrow(file) }, offset)?;
            let area: &Area = (*owner).as_ref();
            if area.len() != len {
                return Err(EINVAL);
            }
            owner.map()?;
            // SAFETY: The memory comes from `flexsc_area_alloc` and lives during the call; its
            // pages get references of their own.
            if let Err(e) = to_result(unsafe { c::flexsc_mmap(vma, area.as_ptr()) }) {
                owner.unmap();
                return Err(e);
            }
            // SAFETY: As above. The mapping owns the reference; `mapping_close` takes it back.
            unsafe {
                (*vma).vm_private_data = Arc::into_raw(owner).cast_mut().cast();
                (*vma).vm_ops = &Self::MAPPING_TABLE.0;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the memory management for a copy of a mapping that `mmap` has made.
    unsafe extern "C" fn mapping_open(vma: *mut bindings::vm_area_struct) {
        // SAFETY: `vma` is a copy of a mapping that owns a reference; the copy gets one of its own.
        let owner = unsafe { ArcBorrow::from_raw((*vma).vm_private_data.cast::<T::Mapping>()) };
        owner.map_again();
        mem::forget(Arc::from(owner));
    }

    /// # Safety
    ///
    /// Called by the memory management once for each mapping that `mmap` or `mapping_open` has
    /// made.
    unsafe extern "C" fn mapping_close(vma: *mut bindings::vm_area_struct) {
        // SAFETY: Each mapping owns the reference that `mmap` or `mapping_open` has given to it.
        let owner = unsafe { Arc::from_raw((*vma).vm_private_data.cast::<T::Mapping>()) };
        owner.unmap();
    }

    /// For debuggers and `/proc/PID/mem`, which cannot access the pages directly because of VM_IO.
    ///
    /// # Safety
    ///
    /// Called by the memory management for a mapping that `mmap` or `mapping_open` has made, locked
    /// for reading, with `len` bytes at `buf`.
    unsafe extern "C" fn mapping_access(
        vma: *mut bindings::vm_area_struct,
        addr: c_ulong,
        buf: *mut c_void,
        len: c_int,
        write: c_int,
    ) -> c_int {
        // SAFETY: The mapping owns a reference, and is locked.
        let owner = unsafe { ArcBorrow::from_raw((*vma).vm_private_data.cast::<T::Mapping>()) };
        let (area, first): (&Area, _) = ((*owner).as_ref(), owner.page_offset());
        // SAFETY: The memory lives as long as its owner; the caller passes `len` bytes at `buf`.
        unsafe {
            c::flexsc_access(
                vma,
                area.as_ptr(),
                area.len(),
                first,
                addr,
                buf,
                len,
                write != 0,
            )
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with an open file of this device that stays open during the call. `table`
    /// may be null.
    unsafe extern "C" fn poll(
        file: *mut bindings::file,
        table: *mut bindings::poll_table_struct,
    ) -> bindings::__poll_t {
        // SAFETY: The VFS passes an open file of this device. It holds no reference if no other
        // task shares the caller's table of files, but the caller does not change this table
        // during the call.
        match T::is_readable(unsafe { Self::borrow(file) }, &Poll { file, table }) {
            Ok(false) => 0,
            Ok(true) => bindings::POLLIN | bindings::POLLRDNORM,
            Err(_) => bindings::POLLERR,
        }
    }

    /// # Safety
    ///
    /// Called by procfs with an open file of this device, to which the caller holds a reference,
    /// and the `seq_file` that it writes.
    unsafe extern "C" fn show_fdinfo(m: *mut bindings::seq_file, file: *mut bindings::file) {
        // SAFETY: procfs passes an open file of this device, with a reference.
        T::show(unsafe { Self::borrow(file) }, &Lines(m));
    }
}

//! The functions that would be called without this library: the next definitions in the search
//! order of ld.so(8).
//!
//! dlsym(3) would find them too, but it stood in a library of its own before glibc 2.34, and it may
//! allocate. So the symbol tables of the loaded objects are read here (System V ABI, "Dynamic
//! Linking"; `DT_GNU_HASH` as binutils write it).

use core::ffi::{CStr, c_char, c_int, c_uint, c_ulong, c_void};
use core::mem::transmute;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use libc::{Elf64_Phdr, Elf64_Sym, FILE, PT_DYNAMIC, PT_LOAD, dl_phdr_info, mode_t, size_t};

use engine::{errno, sys};

/// The next definition of a function.
struct Next {
    name: &'static CStr,
    /// The name's hash in `DT_GNU_HASH`.
    hash: u32,
    /// The definition; null before the search, and if there is none.
    found: AtomicPtr<c_void>,
    /// A definition in an object loaded before this library, used if it is the only one: then
    /// dlopen(3) loaded this library.
    before: AtomicPtr<c_void>,
}

static SEARCHED: AtomicBool = AtomicBool::new(false);

impl Next {
    const fn new(name: &'static CStr) -> Next {
        let [found, before] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];
        Next { name, hash: gnu_hash(name.to_bytes()), found, before }
    }

    #[inline]
    fn get(&self) -> *mut c_void {
        let found = self.found.load(Ordering::Relaxed);
        if found.is_null() { self.after_search() } else { found }
    }

    #[cold]
    #[inline(never)]
    fn after_search(&self) -> *mut c_void {
        if !SEARCHED.load(Ordering::Acquire) {
            resolve();
        }
        self.found.load(Ordering::Relaxed)
    }
}

/// Returns the hash of a name in `DT_GNU_HASH`.
const fn gnu_hash(name: &[u8]) -> u32 {
    let mut hash = 5381u32;
    let mut at = 0;
    while at < name.len() {
        hash = hash.wrapping_mul(33).wrapping_add(name[at] as u32);
        at += 1;
    }
    hash
}

/// A search through the loaded objects, in the order in which they were loaded.
struct Search {
    /// Whether the objects before this library are searched, instead of those after it.
    before: bool,
    is_after_library: bool,
}

impl Search {
    fn run(before: bool) {
        let mut search = Search { before, is_after_library: false };
        // SAFETY: `visit` takes what dl_iterate_phdr(3) gives it and the address of a search.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
    }
}

/// Searches for all functions, so that no call has to.
pub fn resolve() {
    Search::run(false);
    let is_missing = |next: &&&Next| next.found.load(Ordering::Relaxed).is_null();
    if ALL.iter().any(|next| is_missing(&next)) {
        Search::run(true);
        for next in ALL.iter().filter(is_missing) {
            next.found.store(next.before.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
    let ioctl = statics::ioctl.found.load(Ordering::Relaxed);
    if !ioctl.is_null() {
        IOCTL.store(ioctl, Ordering::Relaxed);
    }
    SEARCHED.store(true, Ordering::Release);
}

type Ioctl = unsafe extern "C" fn(c_int, c_ulong, ...) -> c_int;

/// The next ioctl(2). It is never null, because programs call it often.
static IOCTL: AtomicPtr<c_void> = AtomicPtr::new(first_ioctl as *mut c_void);

unsafe extern "C" fn first_ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    let found = statics::ioctl.get();
    if found.is_null() {
        // SAFETY: the caller's own call.
        return unsafe { sys::ioctl(fd, request, argument) }.map_or(-1, |value| value as c_int);
    }
    // Not by `ioctl`, which would come back here until the search is over: in a signal handler during the
    // search, or in a child that was forked then, for ever.
    // SAFETY: a function of this name has this signature.
    let function = unsafe { transmute::<*mut c_void, Ioctl>(found) };
    // SAFETY: the caller's own call.
    unsafe { function(fd, request, argument) }
}

/// The next ioctl(2).
///
/// # Safety
///
/// As for the C library's.
#[inline(always)]
pub unsafe fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
    // SAFETY: it is an ioctl(2), or `first_ioctl`, which takes its third argument where a variadic
    // function does.
    let function = unsafe { transmute::<*mut c_void, Ioctl>(IOCTL.load(Ordering::Relaxed)) };
    // SAFETY: the caller's own call.
    unsafe { function(fd, request, argument) }
}

macro_rules! next {
    ($($name:ident $arguments:tt -> $result:ty = $missing:expr;)*) => {
        static ALL: &[&Next] = &[&statics::ioctl, $(&statics::$name),*];

        mod statics {
            statics!(ioctl $($name)*);
        }

        $(function!($name $arguments -> $result = $missing);)*
    };
}

macro_rules! statics {
    ($($name:ident)*) => {
        $(#[allow(non_upper_case_globals, reason = "named as the functions")]
        pub(super) static $name: super::Next =
            match core::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => super::Next::new(name),
                Err(_) => super::Next::new(c""),
            };)*
    };
}

macro_rules! function {
    ($name:ident($($argument:ident: $type:ty),*; $last:ident: $last_type:ty) -> $result:ty = $missing:expr) => {
        function!(@ $name($($argument: $type,)* $last: $last_type)
            as fn($($type,)* ...) -> $result = $missing);
    };
    ($name:ident($($argument:ident: $type:ty),*) -> $result:ty = $missing:expr) => {
        function!(@ $name($($argument: $type),*) as fn($($type),*) -> $result = $missing);
    };
    (@ $name:ident($($argument:ident: $type:ty),*) as fn $types:tt -> $result:ty = $missing:expr) => {
        /// The next definition.
        ///
        /// # Safety
        ///
        /// As for the function of this name.
        #[inline(always)]
        pub unsafe fn $name($($argument: $type),*) -> $result {
            let found = statics::$name.get();
            if found.is_null() {
                return $missing;
            }
            // SAFETY: a function of this name has this signature.
            let function = unsafe { transmute::<*mut c_void, unsafe extern "C" fn $types -> $result>(found) };
            // SAFETY: the caller's own call.
            unsafe { function($($argument),*) }
        }
    };
}

next! {
    open(path: *const c_char, flags: c_int; mode: mode_t) -> c_int = missing();
    open64(path: *const c_char, flags: c_int; mode: mode_t) -> c_int = missing();
    __open_2(path: *const c_char, flags: c_int) -> c_int = missing();
    __open64_2(path: *const c_char, flags: c_int) -> c_int = missing();
    openat(directory: c_int, path: *const c_char, flags: c_int; mode: mode_t) -> c_int = missing();
    openat64(directory: c_int, path: *const c_char, flags: c_int; mode: mode_t) -> c_int = missing();
    __openat_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int = missing();
    __openat64_2(directory: c_int, path: *const c_char, flags: c_int) -> c_int = missing();
    creat(path: *const c_char, mode: mode_t) -> c_int = missing();
    creat64(path: *const c_char, mode: mode_t) -> c_int = missing();
    fopen(path: *const c_char, mode: *const c_char) -> *mut FILE = missing_file();
    fopen64(path: *const c_char, mode: *const c_char) -> *mut FILE = missing_file();
    freopen(path: *const c_char, mode: *const c_char, file: *mut FILE) -> *mut FILE = missing_file();
    freopen64(path: *const c_char, mode: *const c_char, file: *mut FILE) -> *mut FILE = missing_file();
    fclose(file: *mut FILE) -> c_int = missing();
    close(fd: c_int) -> c_int = missing();
    close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int = kernel_close_range(first, last, flags);
    closefrom(first: c_int) -> () = kernel_closefrom(first);
    dup(fd: c_int) -> c_int = missing();
    dup2(old: c_int, new: c_int) -> c_int = missing();
    dup3(old: c_int, new: c_int, flags: c_int) -> c_int = missing();
    fcntl(fd: c_int, command: c_int; argument: *mut c_void) -> c_int = missing();
    fcntl64(fd: c_int, command: c_int; argument: *mut c_void) -> c_int = missing();
}

/// Fails as a function that this C library does not have.
fn missing() -> c_int {
    errno::set(libc::ENOSYS);
    -1
}

fn missing_file() -> *mut FILE {
    errno::set(libc::ENOSYS);
    ptr::null_mut()
}

/// close_range(2), which the C library has since version 2.34.
fn kernel_close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
    sys::close_range(first, last, flags).map_or(-1, |()| 0)
}

fn kernel_closefrom(first: c_int) {
    kernel_close_range(first.max(0) as c_uint, c_uint::MAX, 0);
}

/// Called by dl_iterate_phdr(3) for each object in the order in which they were loaded.
unsafe extern "C" fn visit(info: *mut dl_phdr_info, _: size_t, search: *mut c_void) -> c_int {
    // SAFETY: `Search::run` gave the address of a search of its own.
    let search = unsafe { &mut *search.cast::<Search>() };
    // SAFETY: the loader describes an object that stays loaded during the call.
    let object = unsafe { Object::new(&*info) };
    if !search.is_after_library && object.holds((&raw const IOCTL).addr()) {
        search.is_after_library = true;
        return 0;
    }
    if search.is_after_library == search.before {
        return 0;
    }
    // SAFETY: the loader has relied on the object being well-formed.
    let Some(symbols) = (unsafe { object.symbols() }) else { return 0 };
    for next in ALL {
        let place = if search.before { &next.before } else { &next.found };
        if place.load(Ordering::Relaxed).is_null() {
            // SAFETY: the tables are those of that object.
            place.store(unsafe { symbols.function(next) }, Ordering::Relaxed);
        }
    }
    0
}

/// An entry of the dynamic section.
#[repr(C)]
struct Dyn {
    tag: i64,
    value: usize,
}

/// A loaded object.
struct Object<'a> {
    base: usize,
    segments: &'a [Elf64_Phdr],
}

impl<'a> Object<'a> {
    /// # Safety
    ///
    /// The loader made the description, and the object stays loaded for `'a`.
    unsafe fn new(info: &'a dl_phdr_info) -> Object<'a> {
        let segments = if info.dlpi_phdr.is_null() {
            &[]
        } else {
            // SAFETY: as the caller says.
            unsafe { core::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) }
        };
        Object { base: info.dlpi_addr as usize, segments }
    }

    fn holds(&self, address: usize) -> bool {
        self.segments.iter().any(|segment| {
            let start = self.base.wrapping_add(segment.p_vaddr as usize);
            segment.p_type == PT_LOAD && address.wrapping_sub(start) < segment.p_memsz as usize
        })
    }

    /// Returns the symbols of the object.
    ///
    /// # Safety
    ///
    /// The object is well-formed: the loader has already relied on that.
    unsafe fn symbols(&self) -> Option<Symbols> {
        const DT_NULL: i64 = 0;
        const DT_HASH: i64 = 4;
        const DT_STRTAB: i64 = 5;
        const DT_SYMTAB: i64 = 6;
        const DT_GNU_HASH: i64 = 0x6fff_fef5;
        const DT_VERSYM: i64 = 0x6fff_fff0;
        let dynamic = self.segments.iter().find(|segment| segment.p_type == PT_DYNAMIC)?;
        let mut entry = self.base.wrapping_add(dynamic.p_vaddr as usize) as *const Dyn;
        let (mut strings, mut symbols, mut versions, mut hash, mut gnu_hash) = (0, 0, 0, 0, 0);
        loop {
            // SAFETY: a dynamic section ends with DT_NULL.
            let Dyn { tag, value } = unsafe { &*entry };
            if *tag == DT_NULL {
                break;
            }
            // The C library writes addresses into the section; in the vDSO offsets stay.
            let address = if *value < self.base { self.base.wrapping_add(*value) } else { *value };
            match *tag {
                DT_STRTAB => strings = address,
                DT_SYMTAB => symbols = address,
                DT_VERSYM => versions = address,
                DT_HASH => hash = address,
                DT_GNU_HASH => gnu_hash = address,
                _ => {}
            }
            // SAFETY: it was not the last.
            entry = unsafe { entry.add(1) };
        }
        (strings != 0 && symbols != 0).then_some(Symbols {
            base: self.base,
            strings: strings as *const c_char,
            symbols: symbols as *const Elf64_Sym,
            versions: versions as *const u16,
            hash: hash as *const u32,
            gnu_hash: gnu_hash as *const u32,
        })
    }
}

/// The symbols of a loaded object. The last three tables may be missing (null).
struct Symbols {
    base: usize,
    strings: *const c_char,
    symbols: *const Elf64_Sym,
    versions: *const u16,
    hash: *const u32,
    gnu_hash: *const u32,
}

impl Symbols {
    /// Returns the address of a function, or null. `STT_GNU_IFUNC` is not supported: no C library
    /// uses it for these functions.
    ///
    /// # Safety
    ///
    /// The tables are those of a well-formed object that stays loaded.
    unsafe fn function(&self, next: &Next) -> *mut c_void {
        if !self.gnu_hash.is_null() {
            // SAFETY: as the caller says.
            return unsafe { self.by_gnu_hash(next) };
        }
        if self.hash.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: the second word of the table is the number of symbols.
        let count = unsafe { *self.hash.add(1) };
        // SAFETY: as the caller says.
        let found = (1..count).find_map(|symbol| unsafe { self.definition(symbol, next.name) });
        found.unwrap_or(ptr::null_mut())
    }

    /// Returns the address of a function, if this is its symbol.
    unsafe fn definition(&self, symbol: u32, name: &CStr) -> Option<*mut c_void> {
        const STT_FUNC: u8 = 2;
        const VERSYM_HIDDEN: u16 = 0x8000;
        let symbol = symbol as usize;
        // SAFETY: a symbol of the table, whose name stands among the strings. A string differs from
        // `name` at its own end at the latest.
        let (definition, hidden, same) = unsafe {
            let definition = &*self.symbols.add(symbol);
            let hidden = !self.versions.is_null() && *self.versions.add(symbol) & VERSYM_HIDDEN != 0;
            let string = self.strings.add(definition.st_name as usize).cast::<u8>();
            let mut bytes = name.to_bytes_with_nul().iter().enumerate();
            let same = bytes.all(|(at, byte)| *string.add(at) == *byte);
            (definition, hidden, same)
        };
        let defined = definition.st_shndx != 0 && definition.st_info & 0xf == STT_FUNC;
        (same && defined && !hidden)
            .then(|| self.base.wrapping_add(definition.st_value as usize) as *mut c_void)
    }

    unsafe fn by_gnu_hash(&self, next: &Next) -> *mut c_void {
        // Numbers of buckets, of the first symbol in the table, of 64-bit words of a Bloom filter;
        // then these.
        // SAFETY: the table of a well-formed object.
        let (buckets, first, bloom) =
            unsafe { (*self.gnu_hash, *self.gnu_hash.add(1), *self.gnu_hash.add(2) as usize) };
        let wanted = next.hash;
        let Some(bucket) = wanted.checked_rem(buckets) else { return ptr::null_mut() };
        // SAFETY: the table of a well-formed object, in which the chains follow the buckets.
        let (mut symbol, chain) = unsafe {
            let table = self.gnu_hash.add(4).add(2 * bloom);
            (*table.add(bucket as usize), table.add(buckets as usize))
        };
        if symbol < first {
            return ptr::null_mut();
        }
        loop {
            // SAFETY: a chain ends with an entry whose lowest bit is set.
            let entry = unsafe { *chain.add((symbol - first) as usize) };
            if entry | 1 == wanted | 1 {
                // SAFETY: chains name symbols of the table.
                if let Some(found) = unsafe { self.definition(symbol, next.name) } {
                    return found;
                }
            }
            if entry & 1 != 0 {
                return ptr::null_mut();
            }
            symbol = symbol.wrapping_add(1);
        }
    }
}

//! `vmware-bdwrapper libdir`: where `make install` puts the library.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::program::loader::{Loader, resolve};
use crate::say::failure::{Failure, print, shown};
use crate::say::finding::{Code, Finding};

/// Prints the directory.
pub fn libdir(loader: Option<PathBuf>, root: Option<PathBuf>) -> Result<(), Failure> {
    let found = find(loader, root)?;
    print([found.as_os_str().as_bytes(), b"\n"].concat())
}

fn find(loader: Option<PathBuf>, root: Option<PathBuf>) -> Result<PathBuf, Finding> {
    let loader = match (loader, &root) {
        (Some(file), _) => Ok(Loader::given(file)),
        (None, Some(root)) => Loader::below(root),
        (None, None) => Loader::of_system(),
    };
    let trusted = loader.and_then(|loader| loader.trusted());
    let trusted = trusted.map_err(|unknown| {
        unknown.finding("give a loader of the GNU C library with --loader FILE ('ldd /bin/true' names one)")
    })?;
    let exists = |directory: &Path| match &root {
        Some(root) => resolve(root, directory).is_some_and(|found| root.join(found).is_dir()),
        None => directory.is_dir(),
    };
    choose(&trusted, exists).ok_or_else(|| {
        let names: Vec<String> = trusted.iter().map(|directory| shown(directory).to_string()).collect();
        let place = root.map(|root| format!(" below {}", shown(&root))).unwrap_or_default();
        let why = format!("None of the loader's directories ({}) exists{place}", names.join(", "));
        Finding::problem(Code::NotFound, why).hint("make one of them")
    })
}

/// The first that exists or, where it is one of a pair such as `/lib64` and `/usr/lib64`, the one below `/usr`.
fn choose(trusted: &[PathBuf], exists: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let first = trusted.iter().find(|directory| exists(directory))?;
    let twin = Path::new("/usr").join(first.strip_prefix("/").unwrap_or(first));
    Some(if trusted.contains(&twin) && exists(&twin) { twin } else { first.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(trusted: &[&str], missing: &[&str]) -> Option<String> {
        let trusted: Vec<PathBuf> = trusted.iter().map(PathBuf::from).collect();
        let exists = |directory: &Path| !missing.iter().any(|name| directory == Path::new(name));
        choose(&trusted, exists).map(|directory| directory.display().to_string())
    }

    #[test]
    fn distributions() {
        let debian = ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"];
        assert_eq!(chosen(&debian, &[]).as_deref(), Some("/usr/lib/x86_64-linux-gnu"));
        assert_eq!(chosen(&debian, &debian[..2]).as_deref(), Some("/usr/lib"));
        assert_eq!(chosen(&debian, &debian[1..]).as_deref(), Some("/lib/x86_64-linux-gnu"));
        assert_eq!(chosen(&debian, &debian), None);
        assert_eq!(chosen(&["/lib64", "/usr/lib64"], &[]).as_deref(), Some("/usr/lib64"));
        assert_eq!(chosen(&["/usr/lib"], &[]).as_deref(), Some("/usr/lib"));
        assert_eq!(chosen(&["/lib64"], &[]).as_deref(), Some("/lib64"));
    }
}

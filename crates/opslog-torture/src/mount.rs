//! File systems of our own: made in a file or in memory, mounted, cut off.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::{Outcome, say};

/// `FS_IOC_SHUTDOWN` with flag 2: from this moment on nothing reaches the disk, not even the file system's journal. As good as the plug.
/// Says a line when it is ready, and pulls it when its input ends.
const SHUTDOWN: &str = r#"open(my $root, "<", $ARGV[0]) or die $!; my $flag = pack("L", 2); $| = 1; print "ready\n"; <STDIN>; ioctl($root, 0x8004587d, $flag) or die $!;"#;

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
    Tmpfs,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Tmpfs => "tmpfs",
        }
    }
}

/// A file system in a file, unmounted when dropped.
pub(crate) struct Mount {
    kind: Kind,
    megabytes: u64,
    place: TempDir,
    mounted: bool,
}

impl Mount {
    /// Makes a file system of that size and mounts it. `None`, said loudly, where that cannot be done.
    pub(crate) fn new(kind: Kind, megabytes: u64) -> Outcome<Option<Self>> {
        let mut mount = Self {
            kind,
            megabytes,
            place: tempfile::tempdir()?,
            mounted: false,
        };
        let name = kind.name();
        let prepared = call("mkdir", &[&mount.point()]).and_then(|()| mount.format());
        match prepared.and_then(|()| mount.mount()) {
            Ok(()) => Ok(Some(mount)),
            Err(fault) => {
                say(&format!(
                    "SKIPPED: {name} was NOT tested, since it cannot be mounted here (root, loop devices, mkfs.{name}): {fault}"
                ));
                Ok(None)
            }
        }
    }

    /// Where the files are.
    pub(crate) fn point(&self) -> PathBuf {
        self.place.path().join("mounted")
    }

    fn image(&self) -> PathBuf {
        self.place.path().join("image")
    }

    fn format(&self) -> Outcome {
        let size = PathBuf::from(format!("{}M", self.megabytes));
        let image = self.image();
        match self.kind {
            Kind::Tmpfs => Ok(()),
            Kind::Ext4 => {
                call("truncate", &[Path::new("-s"), &size, &image])?;
                call("mkfs.ext4", &[Path::new("-q"), Path::new("-F"), &image])
            }
            Kind::Xfs => {
                call("truncate", &[Path::new("-s"), &size, &image])?;
                call("mkfs.xfs", &[Path::new("-q"), Path::new("-f"), &image])
            }
        }
    }

    /// Mounts it; after a cut the journal is replayed.
    pub(crate) fn mount(&mut self) -> Outcome {
        let image = self.image();
        let size = PathBuf::from(format!("size={}M", self.megabytes));
        let source: Vec<&Path> = match self.kind {
            Kind::Tmpfs => ["-t", "tmpfs", "-o"]
                .map(Path::new)
                .into_iter()
                .chain([&*size, Path::new("tmpfs")])
                .collect(),
            Kind::Ext4 | Kind::Xfs => vec![Path::new("-o"), Path::new("loop"), &image],
        };
        let point = self.point();
        call("mount", &[source, vec![&point]].concat())?;
        self.mounted = true;
        Ok(())
    }

    /// Takes the plug in the hand.
    pub(crate) fn plug(&self) -> Outcome<Plug> {
        let mut perl = Command::new("perl")
            .args([Path::new("-e"), Path::new(SHUTDOWN), &self.point()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("perl: {error}"))?;
        let mut ready = String::new();
        let output = perl.stdout.take().ok_or("no pipe")?;
        BufReader::new(output).read_line(&mut ready)?;
        Ok(Plug(perl))
    }

    pub(crate) fn unmount(&mut self) -> Outcome {
        call("umount", &[&self.point()])?;
        self.mounted = false;
        Ok(())
    }
}

/// A power cut that is ready.
pub(crate) struct Plug(Child);

impl Plug {
    pub(crate) fn pull(mut self) -> Outcome {
        drop(self.0.stdin.take());
        let status = self.0.wait()?;
        if status.success() {
            return Ok(());
        }
        Err(format!("the file system could not be shut down: perl ended with {status}").into())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted {
            // If it fails, the temporary directory stays too.
            drop(self.unmount());
        }
    }
}

/// Runs a program, which must succeed.
pub(crate) fn call(program: &str, arguments: &[&Path]) -> Outcome {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )
    .into())
}

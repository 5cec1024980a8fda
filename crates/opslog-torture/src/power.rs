//! Power cuts on ext4 and XFS.

use std::path::Path;
use std::time::Duration;

use crate::kill::check;
use crate::model::{Documents, Mode, Plan};
use crate::mount::{Kind, Mount, call};
use crate::writer::{Running, store_in};
use crate::{Arguments, Outcome, random, say};

/// Cuts of each file system, if not said otherwise.
const ROUNDS: u64 = 110;
/// After so many cuts the file system is made anew, so that creating a store is cut too.
const CUTS_A_STORE: u64 = 37;
/// File systems that may come out of a cut unreadable (of XFS one in a thousand does).
const LOST_AT_MOST: u64 = 2;
/// Cuts of which one must lose something that was never synced.
const CONTROLS: u64 = 5;

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let Some(mut mount) = Mount::new(kind, 400)? else {
            continue;
        };
        let rounds = arguments.rounds.unwrap_or(ROUNDS);
        let mut state = arguments.seed;
        let (mut settled, mut commits, mut lost) = (Documents::new(), 0, 0);
        for cycle in 0..rounds {
            if cycle > 0 && cycle % CUTS_A_STORE == 0 {
                mount = Mount::new(kind, 400)?.ok_or("it was mounted before")?;
                settled.clear();
            }
            let plan = Plan {
                seed: arguments.seed,
                cycle,
                threads: if cycle % 3 == 0 { 4 } else { 1 },
                // What is left to the operating system may be damaged by a power cut, as documented.
                mode: [Mode::Immediate, Mode::Group, Mode::Immediate, Mode::Async]
                    [usize::try_from(cycle % 4)?],
            };
            let said = cut(&mut mount, plan, random(&mut state))?;
            let store = store_in(&mount.point());
            let kept = tempfile::tempdir()?;
            if let Err(error) = store.try_exists() {
                lost += 1;
                say(&format!(
                    "LOST: {} itself did not survive cut {cycle}, so nothing was checked: {error}",
                    kind.name()
                ));
                if lost > LOST_AT_MOST {
                    return Err("too many file systems were lost for this to say anything".into());
                }
                mount = Mount::new(kind, 400)?.ok_or("it was mounted before")?;
                settled.clear();
                continue;
            }
            if store.exists() {
                call("cp", &[Path::new("-r"), &store, kept.path()])?;
            }
            commits += check(plan, &said, &store, &mut settled).map_err(|fault| {
                format!(
                    "power on {}, seed {}, cycle {cycle}, left as it was in {}: {fault}",
                    kind.name(),
                    arguments.seed,
                    kept.keep().display()
                )
            })?;
        }
        control(kind, arguments)?;
        say(&format!(
            "power: {rounds} cuts of {}, {commits} commits checked, seed {}",
            kind.name(),
            arguments.seed
        ));
    }
    Ok(())
}

/// Cuts the power of a store that leaves syncing to the operating system: that something acknowledged is gone then shows that the cuts cut.
fn control(kind: Kind, arguments: &Arguments) -> Outcome {
    for cycle in 0..CONTROLS {
        let mut mount = Mount::new(kind, 400)?.ok_or("it was mounted before")?;
        let plan = Plan {
            seed: arguments.seed,
            cycle,
            threads: 1,
            mode: Mode::OsBuffered,
        };
        let said = cut(&mut mount, plan, 1 << 24)?;
        if check(
            plan,
            &said,
            &store_in(&mount.point()),
            &mut Documents::new(),
        )
        .is_err()
        {
            return Ok(());
        }
    }
    Err("stores that never sync lost nothing, so the cuts are none".into())
}

/// Writes, cuts, and mounts again.
fn cut(mount: &mut Mount, plan: Plan, dice: u64) -> Outcome<Vec<crate::model::Said>> {
    let mut writer = Running::start(&store_in(&mount.point()), plan)?;
    // Some cuts while the store is being opened, or created.
    let mut heard = if dice.is_multiple_of(7) {
        std::thread::sleep(Duration::from_micros((dice >> 8) % 20_000));
        Vec::new()
    } else {
        writer.wait(Duration::from_micros((dice >> 8) % 150_000))?
    };
    let plug = mount.plug()?;
    heard.extend(writer.heard());
    plug.pull()?;
    // A sync that is under way when the file system is shut down may answer that all is well, though its journal was dropped (seen with a program of twenty
    // lines, on both file systems, in one of fifty cuts). With the power its process would be gone: what is said from now on proves nothing.
    let said = writer.kill(heard, false)?;
    mount.unmount()?;
    mount.mount()?;
    Ok(said)
}

//! Kernel: version, what it was built with, memory, clock, leaks. In: a [`Machine`]. Out: findings.

use super::{Finding, Machine, Seccomp};
use crate::clock::Watch;
use crate::limits::{KERNEL_MIN, TABLE_BYTES_MAX};
use crate::privilege::leaks;
use tap_common::limits::{CPUS_MAX, ring_bytes};

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    vec![
        version(machine),
        btf(machine),
        jit(machine),
        confinement(machine),
        cpus(machine),
        memory(machine),
        memory_lock(machine),
        clock(machine),
        swap(machine),
        core_pattern(machine),
    ]
}

fn version(machine: &Machine) -> Finding {
    const CHECK: &str = "kernel";
    let (major, minor) = KERNEL_MIN;
    let mend = format!("install Linux {major}.{minor} or later (Debian 12 has it) and boot it");
    match parse_release(&machine.release) {
        Some(release) if release >= KERNEL_MIN => Finding::ok(CHECK, format!("Linux {}", machine.release)),
        Some(_) => Finding::failed(CHECK, format!("Linux {} is too old", machine.release), mend),
        None => Finding::warning(CHECK, format!("the release `{}` is not understood", machine.release), mend),
    }
}

/// `6.1.0-28-amd64`: the first two numbers.
fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn btf(machine: &Machine) -> Finding {
    const CHECK: &str = "btf";
    if machine.btf {
        return Finding::ok(CHECK, "the kernel describes its types");
    }
    Finding::warning(
        CHECK,
        "/sys/kernel/btf/vmlinux is not there",
        "boot a kernel with CONFIG_DEBUG_INFO_BTF=y (Debian's are); without it the verifier's messages and bpftool say less",
    )
}

fn jit(machine: &Machine) -> Finding {
    const CHECK: &str = "bpf-jit";
    match machine.jit.as_deref().map(str::trim) {
        Some("0") => Finding::warning(
            CHECK,
            "BPF programs are interpreted: many times slower",
            "sysctl net.core.bpf_jit_enable=1, and write it to /etc/sysctl.d/",
        ),
        Some(_) => Finding::ok(CHECK, "BPF programs are compiled"),
        None => Finding::ok(CHECK, "the kernel has no switch for it"),
    }
}

fn confinement(machine: &Machine) -> Finding {
    const CHECK: &str = "confinement";
    let found = format!(
        "Landlock: {}; seccomp filters: {}",
        if machine.landlock == 0 { "none".into() } else { format!("version {}", machine.landlock) },
        if machine.seccomp == Seccomp::Filter { "yes" } else { "no" },
    );
    if machine.landlock > 0 && machine.seccomp == Seccomp::Filter {
        return Finding::ok(CHECK, found);
    }
    Finding::warning(
        CHECK,
        found,
        "boot a kernel with CONFIG_SECCOMP_FILTER and CONFIG_SECURITY_LANDLOCK, with landlock in its `lsm=` list: what limits \
         the processes' system calls and files needs them",
    )
}

fn cpus(machine: &Machine) -> Finding {
    const CHECK: &str = "cpus";
    let found = format!("{} processors", machine.cpus);
    if machine.cpus <= CPUS_MAX {
        return Finding::ok(CHECK, found);
    }
    Finding::failed(
        CHECK,
        format!("{found}; a tap's counters are made for {CPUS_MAX}"),
        format!("boot with possible_cpus={CPUS_MAX}"),
    )
}

/// Bytes of the rings and of two generations' tables at their largest: what the kernel's side can come to take.
pub(super) fn memory_need_bytes(cpus: usize) -> u64 {
    let rings = u64::from(ring_bytes(cpus)).saturating_mul(cpus as u64);
    rings.saturating_add(2 * TABLE_BYTES_MAX as u64)
}

fn memory(machine: &Machine) -> Finding {
    const CHECK: &str = "memory";
    let need = memory_need_bytes(machine.cpus);
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    match machine.memory.available_bytes {
        Some(available) if available >= need => {
            Finding::ok(CHECK, format!("{} available; rings and the largest tables take {}", mib(available), mib(need)))
        }
        Some(available) => Finding::warning(
            CHECK,
            format!("{} available; rings and the largest tables take {}", mib(available), mib(need)),
            "add memory, or keep the selector sets small",
        ),
        None => Finding::warning(CHECK, "/proc/meminfo does not say what is available", "let this process read it"),
    }
}

fn memory_lock(machine: &Machine) -> Finding {
    const CHECK: &str = "memory-lock";
    match (machine.memory.lock_limit_bytes, machine.memory.may_lock) {
        (None, _) => Finding::ok(CHECK, "locked memory has no limit"),
        (Some(bytes), true) => Finding::ok(CHECK, format!("the limit of {bytes} bytes is lifted at start")),
        (Some(bytes), false) => Finding::failed(
            CHECK,
            format!("memory can be locked up to {bytes} bytes"),
            "start the tap by its unit (LimitMEMLOCK=infinity) or as root; run this check as root too",
        ),
    }
}

fn clock(machine: &Machine) -> Finding {
    const CHECK: &str = "clock";
    let reading = match &machine.clock {
        Ok(reading) => reading,
        Err(reason) => return Finding::failed(CHECK, reason, "run this check where adjtimex(2) is allowed"),
    };
    match Watch::new(!machine.clock_not_required, 0).judge(reading) {
        Ok(_) if machine.clock_not_required => Finding::warning(
            CHECK,
            "the configuration does not ask for a synchronised clock",
            "take `synchronised = \"not-required\"` out of [clock]: it is for laboratories",
        ),
        Ok(_) => Finding::ok(CHECK, format!("synchronised, within {} ms", reading.error_ns / 1_000_000)),
        Err(doubt) => Finding::failed(
            CHECK,
            doubt.to_string(),
            "systemctl enable --now chrony (or systemd-timesyncd), then wait until `chronyc tracking` or `timedatectl` shows \
             the clock as synchronised",
        ),
    }
}

fn swap(machine: &Machine) -> Finding {
    const CHECK: &str = "swap";
    match &machine.swaps {
        Ok(swaps) => leak(CHECK, "no area is active", leaks::judge(&machine.privilege, swaps, "")),
        Err(reason) => hidden(CHECK, reason),
    }
}

fn core_pattern(machine: &Machine) -> Finding {
    const CHECK: &str = "core-pattern";
    match &machine.core_pattern {
        Ok(pattern) => leak(CHECK, "cores go into no program", leaks::judge(&machine.privilege, "", pattern)),
        Err(reason) => hidden(CHECK, reason),
    }
}

type Exceptions<'a> = Vec<(&'static str, &'a str)>;

fn leak(check: &'static str, fine: &str, judged: Result<Exceptions<'_>, crate::privilege::PrivilegeError>) -> Finding {
    match judged {
        Ok(exceptions) => match exceptions.first() {
            None => Finding::ok(check, fine),
            Some((key, reason)) => Finding::ok(check, format!("{key} allows it in writing: {reason}")),
        },
        // The refusal's own words: what is there, and behind the semicolon what to do.
        Err(refusal) => {
            let text = refusal.to_string();
            let (found, mend) = text.rsplit_once("; ").unwrap_or((&text, "see [privilege] in the configuration"));
            Finding::failed(check, found, mend)
        }
    }
}

fn hidden(check: &'static str, reason: &str) -> Finding {
    Finding::failed(check, reason, "let this process read it: the agent refuses to start where it cannot")
}

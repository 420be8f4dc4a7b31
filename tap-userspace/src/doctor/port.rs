//! Port: the configuration, the BPF file system and the mirror port. In: a [`Machine`]. Out: findings.

use super::{Finding, Machine, Port, Xdp};
use crate::limits::DRIVERS_NATIVE;
use std::path::Path;

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let mut findings = vec![configuration(machine)];
    findings.extend(machine.bpf_file_system.as_ref().map(|(path, there)| bpf_file_system(path, *there)));
    match &machine.port {
        None => {}
        Some(Err(reason)) => findings.push(Finding::failed(
            "interface",
            reason,
            "name the port in [mirror] interface as `ip link` shows it, in the namespace that the tap runs in",
        )),
        Some(Ok(port)) => {
            findings.extend([interface(port), native(port), queues(port, machine.cpus), ring(port), arriving(port)]);
        }
    }
    findings
}

fn configuration(machine: &Machine) -> Finding {
    const CHECK: &str = "configuration";
    match &machine.configuration {
        Ok(file) => Finding::ok(CHECK, file.display().to_string()),
        Err(reason) => Finding::failed(
            CHECK,
            reason,
            "mend the file, or name another with --config; port, keys, certificates and disk could not be looked at",
        ),
    }
}

fn bpf_file_system(path: &Path, there: bool) -> Finding {
    const CHECK: &str = "bpf-file-system";
    if there {
        return Finding::ok(CHECK, path.display().to_string());
    }
    Finding::failed(
        CHECK,
        format!("{} lies on no BPF file system", path.display()),
        "mount -t bpf bpf /sys/fs/bpf (systemd does it at boot), or change [mirror] pin_directory",
    )
}

fn interface(port: &Port) -> Finding {
    const CHECK: &str = "interface";
    let name = &port.name;
    if !port.up {
        return Finding::failed(CHECK, format!("{name} is down"), format!("ip link set {name} up promisc on"));
    }
    if !port.running {
        return Finding::failed(
            CHECK,
            format!("{name} has no line"),
            "see to cable, optics and the router's port; a port without a line receives nothing",
        );
    }
    if port.mirror && !port.promiscuous {
        return Finding::warning(
            CHECK,
            format!("{name} drops frames for other hosts' addresses before the program sees them"),
            format!("ip link set {name} promisc on (unless the router's copies come in a tunnel to this host)"),
        );
    }
    if port.mirror && port.addresses > 0 {
        return Finding::warning(
            CHECK,
            format!("{name} has {} IP address(es); a mirror port is for copies alone", port.addresses),
            format!("ip address flush dev {name}; sysctl net.ipv6.conf.{name}.disable_ipv6=1"),
        );
    }
    Finding::ok(CHECK, format!("{name} is up"))
}

fn native(port: &Port) -> Finding {
    const CHECK: &str = "xdp";
    let driver = port.driver.as_deref().unwrap_or("unnamed");
    if !port.native {
        return Finding::warning(
            CHECK,
            format!("attach = \"generic\" (driver {driver}): XDP in the network stack, several times slower"),
            "a card whose driver has XDP, and attach = \"native\"",
        );
    }
    let known = DRIVERS_NATIVE.contains(&driver);
    match port.xdp {
        Xdp::Driver => Finding::ok(CHECK, format!("driver {driver} has it")),
        Xdp::Unknown if known => Finding::ok(CHECK, format!("driver {driver} is known to have it")),
        Xdp::Unknown => Finding::warning(
            CHECK,
            format!("whether driver {driver} has it cannot be told on this kernel"),
            "start the tap and see; if it refuses, another card, or attach = \"generic\" in [mirror]",
        ),
        Xdp::None => Finding::failed(
            CHECK,
            format!("driver {driver} has no XDP as it is set up now"),
            format!(
                "ethtool -K {} lro off gro-hw off, and an MTU that one page holds; if that is of no avail another card, or \
                 attach = \"generic\" in [mirror]",
                port.name
            ),
        ),
    }
}

fn queues(port: &Port, cpus: usize) -> Finding {
    const CHECK: &str = "queues";
    let Some(queues) = port.queues else {
        return Finding::warning(
            CHECK,
            "the driver does not say how many receive queues there are",
            format!("see /proc/interrupts for {}: each queue has an interrupt of its own", port.name),
        );
    };
    let wanted = u32::try_from(cpus).unwrap_or(u32::MAX).min(queues.most).max(1);
    let found = format!("{} of {} receive queues, {cpus} processors", queues.used, queues.most);
    if queues.used >= wanted {
        return Finding::ok(CHECK, found);
    }
    Finding::warning(
        CHECK,
        format!("{found}: processors without a queue do nothing for the tap"),
        format!("ethtool -L {} combined {wanted} (or rx {wanted})", port.name),
    )
}

fn ring(port: &Port) -> Finding {
    const CHECK: &str = "receive-ring";
    match port.ring {
        None => Finding::ok(CHECK, "the driver has none to set"),
        Some(ring) if ring.used >= ring.most => Finding::ok(CHECK, format!("{} slots", ring.used)),
        Some(ring) => Finding::warning(
            CHECK,
            format!("{} of {} slots: a burst longer than that is lost before the program", ring.used, ring.most),
            format!("ethtool -G {} rx {}", port.name, ring.most),
        ),
    }
}

fn arriving(port: &Port) -> Finding {
    const CHECK: &str = "mirror";
    match port.arrived {
        None => Finding::warning(CHECK, "nobody looked whether frames arrive", "--seconds 2"),
        Some((0, milliseconds)) => Finding::warning(
            CHECK,
            format!("no frame in {milliseconds} ms"),
            "see to the router's mirror session: source, direction and destination port; docs/deployment.md",
        ),
        Some((frames, milliseconds)) if port.dropped > 0 => Finding::warning(
            CHECK,
            format!("{frames} frames in {milliseconds} ms; the port dropped {}", port.dropped),
            "larger receive rings and more queues; docs/deployment.md",
        ),
        Some((frames, milliseconds)) => Finding::ok(CHECK, format!("{frames} frames in {milliseconds} ms")),
    }
}

//! What the agent and its loader need of the machine, as the configuration has it.

use super::Config;
use crate::privilege::{Calls, Keep, Needs, Reach};

/// The kernel's own files: a process's counters of its interfaces, the boot's identity, memory. The files in it are made
/// anew when they are looked up, so that no narrower rule would hold them.
const PROC: &str = "/proc";

impl Config {
    /// The agent: no capability, its documents, keys and directories, the facilities and the metrics page.
    #[must_use]
    pub fn agent_needs(&self) -> Needs {
        let mut reach = Reach::default()
            .system(PROC)
            .system("/etc/machine-id")
            .system("/sys/devices/system/cpu")
            .files([&*self.host.key_file, &*self.host.sealing_key_file, &*self.log.key_file])
            .files([&*self.trust.roots_file, &*self.country_table.file])
            .own(&self.state.directory)
            .own(&self.log.directory)
            .socket(&self.control.socket)
            .listen(self.metrics.listen.port());
        if let Some(directives) = &self.oversight.directives_directory {
            reach = reach.directory(directives);
        }
        if let Some(api) = &self.control.api {
            reach = reach.files(api.paths().map(|(_, path)| &**path)).listen(api.listen.port());
        }
        for measure in &self.measures {
            let export = &measure.export;
            let credentials = [&*export.ca_file, &*export.certificate_file, &*export.key_file];
            reach = reach
                .files([&*measure.order_file, &*measure.set_file, &*measure.activation_file])
                .files([&*measure.pseudonym_key_file, &*measure.spool.key_file])
                .files(measure.extension_files.iter().map(|file| &**file))
                .files(credentials.into_iter().chain(export.revocations_file.as_deref()))
                .own(&measure.spool.directory);
            reach = export.receivers().fold(reach, |reach, (endpoint, _)| reach.connect(endpoint));
        }
        Needs { capabilities: Keep::Nothing, reach, calls: Calls::Agent }
    }

    /// The loader: it loads the program, reads what it believes signatures by, and has its pins. No port, no key.
    #[must_use]
    pub fn loader_needs(&self) -> Needs {
        let reach = Reach::default()
            .system(PROC)
            .system("/sys/devices/system/cpu")
            .system("/sys/kernel/btf")
            .files([&*self.trust.roots_file, &*self.country_table.file])
            .shared(&self.state.directory)
            .own(&self.mirror.pin_directory);
        Needs { capabilities: Keep::Tap, reach, calls: Calls::Loader }
    }
}

impl crate::receive::config::ReceiveConfig {
    /// The receiving facility: its store and credentials, the port of its transport, the Commission's.
    #[must_use]
    pub fn needs(&self) -> Needs {
        let mut reach = Reach::default()
            .system(PROC)
            .system("/sys/devices/system/cpu")
            .system("/sys/fs/cgroup")
            .files([&*self.tls.ca_file, &*self.tls.certificate_file, &*self.tls.key_file])
            .files(self.tls.revocations_file.as_deref())
            .own(&self.store.directory);
        let ports = self.listen.iter().map(|listen| listen.address.port());
        reach = ports.chain(self.metrics.listen.map(|metrics| metrics.port())).fold(reach, Reach::listen);
        if let Some(jetstream) = &self.jetstream {
            let endpoints = jetstream.servers.iter().map(|server| server.endpoint.to_string());
            reach = endpoints.fold(reach.files(jetstream.files()), |reach, endpoint| reach.connect(&endpoint));
        }
        if let Some(notices) = &self.notices {
            reach = reach
                .files([&*notices.key_file, &*notices.ca_file, &*notices.commission_key_file])
                .connect(&notices.endpoint.to_string());
        }
        Needs { capabilities: self.capabilities(), reach, calls: Calls::Receive }
    }

    /// A port below 1024 takes a capability (ip(7), `ip_unprivileged_port_start`); port 0 is the system's choice above it.
    fn capabilities(&self) -> Keep {
        const LOW_PORTS_END: u16 = 1024;
        match self.listen.as_ref().map_or(0, |listen| listen.address.port()) {
            1..LOW_PORTS_END => Keep::LowPort,
            _ => Keep::Nothing,
        }
    }
}

//! What the spool's encryption costs. It cannot be switched off, so that it is measured beside what would be left without it: the
//! same bytes written to a file in the same pieces.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};
use tap_userspace::ipfix::template::RecordTemplate;
use tap_userspace::limits::{BODY_BYTES_MAX, SPOOL_SEGMENT_BYTES};
use tap_userspace::path::spool::{Spool, SpoolKey, SpoolLimits};

use super::float;
use crate::bench::{Bencher, Case, Outcome, pin_to_last_cpu, round, thread_ns};

/// Messages of one measurement, a segment's worth below the limit: some hundred megabytes.
const MESSAGES: u32 = 2_000;

pub(in crate::bench) fn spool_sealing(bencher: &mut Bencher) -> Result<Outcome> {
    let messages = bencher.repeat(MESSAGES);
    let body = vec![0x5a; BODY_BYTES_MAX];
    let records =
        float((BODY_BYTES_MAX / RecordTemplate::Psamp.template().record_bytes_min()) as u64) * f64::from(messages);
    let [sealed, plain] = bencher.medians(|| {
        let directory = tempfile::tempdir()?;
        pin_to_last_cpu()?;
        let limits = SpoolLimits { bytes_max: 4 << 30, segment_bytes: SPOOL_SEGMENT_BYTES };
        let spool = Spool::open(&directory.path().join("spool"), &SpoolKey::new([7; 32]), limits)?;
        let ns = |work: &mut dyn FnMut(u64) -> Result<()>| -> Result<f64> {
            let begin = thread_ns()?;
            (0..u64::from(messages)).try_for_each(work)?;
            Ok(float(u64::try_from(thread_ns()? - begin).context("time goes on")?) / records)
        };
        let sealed = ns(&mut |_| Ok(spool.append(&body).map(drop)?))?;
        let file = File::create(directory.path().join("plain"))?;
        let plain = ns(&mut |message| Ok(file.write_all_at(&body, message * body.len() as u64)?))?;
        Ok([sealed, plain])
    })?;
    let mut case = Case::new(sealed, plain, "the same bytes, not sealed");
    case.further.insert("sealing_ns_per_record", round(sealed - plain, 10.0));
    Ok(Outcome::Measured(case))
}

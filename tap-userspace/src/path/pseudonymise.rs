//! Pseudonymise: from the kernel's clear record to the record that may leave.

//! Address ranges: merging, special-purpose registries, the country table.

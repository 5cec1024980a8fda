# What CI runs.
ready: checks test

# Format, lints, documentation, licences.
checks:
    scripts/ready

# All tests, as the README says.
test:
    scripts/test

# The session of the README on the sample documents.
tour:
    cargo run --release --example tour

# The command's own help.
help:
    cargo run --release -p opslog-cli -- --help

# Before a release: power cuts on real file systems (root), fuzzing, data races. What a machine lacks is skipped, and said.
torture:
    scripts/power-cuts
    scripts/fuzz
    scripts/races

//! What the documentation says of settings, files and output, held against the binary.

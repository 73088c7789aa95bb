//! Hashes of inputs, which name what is cached.

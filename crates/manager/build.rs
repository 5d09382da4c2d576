//! A RocksDB that was built beforehand (`ROCKSDB_LIB_DIR`, see scripts/rocksdb) does not say that it
//! is C++; the linker is told here.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-lib=stdc++");
}

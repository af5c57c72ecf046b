fn main() {
    for f in std::env::args().skip(1) {
        let t = std::time::Instant::now();
        match hiosc::import::import(f.as_ref(), &Default::default()) {
            Err(e) => println!("{f}: {e}"),
            Ok(m) => {
                let t1 = t.elapsed();
                let before = m.graph.operators.len();
                match hiosc::fuse::fuse(m.graph.clone(), &[]) {
                    Err(e) => println!("{f}: FUSE {e}"),
                    Ok(g) => {
                        eprintln!("{f}: {} onnx, {before} -> {} ops, {t1:?} + {:?}", m.onnx_nodes, g.operators.len(), t.elapsed() - t1);
                        println!("{g}");
                    }
                }
            }
        }
    }
}

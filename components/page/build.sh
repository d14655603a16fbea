#!/usr/bin/env bash
# Bundles LiteRT.js and dicom-parser into the package, so that serving needs neither Node.js nor a CDN.
set -euo pipefail
cd "$(dirname "$0")"
target=../tumorflow/serving/page/vendor
npm ci --silent
rm -rf "$target"
mkdir -p "$target"
for module in litert dicom_parser; do
  npx esbuild "$module.js" --bundle --format=esm --minify --legal-comments=inline --log-level=warning \
    --outfile="$target/$module.js"
done
# the flavour that every browser runs; without a name and a time in its header, so that it is always the same
for part in js wasm; do
  gzip -9 -n -c "node_modules/@litertjs/core/wasm/litert_wasm_compat_internal.$part" \
    > "$target/litert_wasm_compat_internal.$part.gz"
done
cp licences.txt "$target/licences.txt"

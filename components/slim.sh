#!/bin/sh
# slim.sh FOLDER: takes out of installed packages what no step uses. Runs as an image is built, before anything is
# compiled; tests/images runs every step and loads every module of what is left.
set -eu
cd "$1"

# tests, and what compilers and type checkers read (lazy_loader reads scikit-image's stubs as it runs)
find . -type d -name tests -prune -exec rm -rf {} +
find . -type f \( -name '*.pyi' ! -path './skimage/*' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.a' \
  -o -name '*.h' -o -name '*.hpp' -o -name '*.cc' -o -name '*.proto' \) -delete
rm -rf pyarrow/include pyarrow/src tensorflow/include

# Arrow's remote procedure calls; scikit-image but for its histograms; DICOM's sample files
rm -rf pyarrow/libarrow_flight.* pyarrow/libarrow_python_flight.* pyarrow/_flight.* pyarrow/flight.py \
  scipy/datasets pydicom/data/test_files _gdcm/XML
if [ -d skimage ]; then
  find skimage -mindepth 1 -maxdepth 1 -type d ! -name exposure ! -name util ! -name '_*' -exec rm -rf {} +
fi

# Amazon's other three hundred services
for data in botocore/data boto3/data; do
  if [ -d "$data" ]; then
    find "$data" -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts ! -name 'sso*' ! -name signin -exec rm -rf {} +
  fi
done

# Pillow's AVIF, which it does without where it is not there; no source may hold such pictures
rm -f PIL/_avif.* pillow.libs/libavif-*

# wheels hold no links: the same library lies there under up to three names
find . -type f -name '*.so*' -exec sha256sum {} + | sort | {
  kept=
  while read -r hash path; do
    if [ "$hash ${path%/*}" = "$kept" ]; then ln -sf "$name" "$path"; fi
    kept="$hash ${path%/*}" name=${path##*/}
  done
}

# symbols that only debuggers read. Libraries that auditwheel has patched do not survive strip: their segments come
# out unaligned, and they stay as they are.
find . -type f -name '*.so*' | while read -r library; do
  strip --strip-unneeded -o /tmp/stripped "$library"
  if readelf -lW /tmp/stripped | awk '
    $1 == "LOAD" && substr($2, length($2) - 2) != substr($3, length($3) - 2) { unaligned = 1 } END { exit unaligned }'
  then cat /tmp/stripped >"$library"; fi
done

/** First bytes of what is compressed as a whole: gzip, xz, zstd, bzip2, lz4, lzma, png, jpeg. */
const MAGICS = [
  '1f8b',
  'fd377a585a00',
  '28b52ffd',
  '425a68',
  '04224d18',
  '02214c18',
  '5d0000',
  '89504e470d0a1a0a',
  'ffd8ff',
].map((hex) => Buffer.from(hex, 'hex'));

/** Bits a byte above which content counts as incompressible. */
const HIGH_ENTROPY = 7.9;
/** Fewer bytes than this say little about entropy. */
const MIN_SAMPLE = 16 * 1024;

/**
 * Whether content is compressed or encrypted as a whole, judged by its start: a change in what was
 * packed changes all that follows, so looking for matches would only take time.
 */
export function isPacked(start: Uint8Array): boolean {
  for (const magic of MAGICS) if (magic.equals(start.subarray(0, magic.length))) return true;
  return start.length >= MIN_SAMPLE && entropy(start) > HIGH_ENTROPY;
}

/** Shannon entropy of single bytes, in bits a byte. */
function entropy(bytes: Uint8Array): number {
  const counts = new Uint32Array(256);
  // An iterator takes several times as long until the function is optimized.
  for (let i = 0; i < bytes.length; i += 1) {
    const byte = bytes[i] as number;
    counts[byte] = (counts[byte] as number) + 1;
  }
  let bits = 0;
  for (const count of counts) {
    if (count > 0) bits -= (count / bytes.length) * Math.log2(count / bytes.length);
  }
  return bits;
}

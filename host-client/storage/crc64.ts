/**
 * CRC-64/GO-ISO, the checksum of files in tar-split records; `123456789` gives b90956c775a41001.
 *
 * The reflected polynomial D800000000000000 has few terms, so no table is needed: four bytes that
 * leave the register at its low end come back as four shifted copies at its high end.
 */
export class Crc64 {
  #high = -1;
  #low = -1;

  update(bytes: Uint8Array): void {
    let high = this.#high;
    let low = this.#low;
    const whole = bytes.length - (bytes.length % 4);
    let at = 0;
    for (; at < whole; at += 4) {
      const word =
        low ^
        ((bytes[at] as number) |
          ((bytes[at + 1] as number) << 8) |
          ((bytes[at + 2] as number) << 16) |
          ((bytes[at + 3] as number) << 24));
      low = high ^ (word << 31) ^ (word << 29) ^ (word << 28);
      high = word ^ (word >>> 1) ^ (word >>> 3) ^ (word >>> 4);
    }
    for (; at < bytes.length; at += 1) {
      const byte = (low ^ (bytes[at] as number)) & 0xff;
      low = (low >>> 8) | (high << 24);
      high = (high >>> 8) ^ (byte << 24) ^ (byte << 23) ^ (byte << 21) ^ (byte << 20);
    }
    this.#high = high;
    this.#low = low;
  }

  /** The checksum so far, eight bytes, highest first. */
  digest(): Buffer {
    const sum = Buffer.alloc(8);
    sum.writeUInt32BE(~this.#high >>> 0, 0);
    sum.writeUInt32BE(~this.#low >>> 0, 4);
    return sum;
  }
}

import { type ByteSource, readBytes } from './part.ts';

/** Where a kernel image has its compressed payload. */
export type Payload = { readonly offset: number; readonly size: number };

/** Protocol version from which the header tells the payload (Linux's x86 boot protocol). */
const PAYLOAD_PROTOCOL = 0x0208;
const SECTOR = 512;

/** The payload of an x86 bzImage or of an EFI zboot image; undefined for anything else. */
export function findKernelPayload(source: ByteSource): Payload | undefined {
  const head = Buffer.from(readBytes(source, 0, 0x250));
  if (head.length < 0x250) return undefined;
  const payload = x86Payload(head) ?? zbootPayload(head);
  if (payload === undefined || payload.size === 0) return undefined;
  return payload.offset + payload.size <= source.size ? payload : undefined;
}

/** Linux's Documentation/arch/x86/boot.rst: offsets of the header's fields. */
function x86Payload(head: Buffer): Payload | undefined {
  if (head.readUInt16LE(0x1fe) !== 0xaa55 || head.toString('latin1', 0x202, 0x206) !== 'HdrS') {
    return undefined;
  }
  if (head.readUInt16LE(0x206) < PAYLOAD_PROTOCOL) return undefined;
  const setupSectors = head[0x1f1] || 4;
  const offset = (setupSectors + 1) * SECTOR + head.readUInt32LE(0x248);
  return { offset, size: head.readUInt32LE(0x24c) };
}

/** Linux's drivers/firmware/efi/libstub/zboot-header.S. */
function zbootPayload(head: Buffer): Payload | undefined {
  if (head.toString('latin1', 0, 2) !== 'MZ' || head.toString('latin1', 4, 8) !== 'zimg') {
    return undefined;
  }
  return { offset: head.readUInt32LE(8), size: head.readUInt32LE(12) };
}

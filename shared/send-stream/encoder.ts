import { SnapgateError } from '../errors.ts';
import { crc32c } from './crc32c.ts';
import {
  ATTRIBUTES,
  type Attribute,
  type AttributeValue,
  COMMAND_HEADER_BYTES,
  COMMANDS,
  MAGIC,
  type SendCommand,
  STREAM_HEADER_BYTES,
} from './format.ts';

const MAX_ATTRIBUTE_BYTES = 0xffff;
const TWO_32 = 0x1_0000_0000;

/** The start of every send stream. */
export function streamHeader(version: 1 | 2 = 1): Buffer {
  const header = Buffer.alloc(STREAM_HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(version, MAGIC.length);
  return header;
}

/**
 * Encodes commands one after the other into a buffer that grows as needed. `take` hands over what
 * has come together, so that many small commands travel in one large write. Two buffers take turns:
 * memory stays flat however long the stream is.
 */
export class SendStreamEncoder {
  readonly #version: 1 | 2;
  #buffer: Buffer;
  #other: Buffer;
  #size = 0;

  /** `capacity` is the usual number of bytes between two calls of {@link take}. */
  constructor(version: 1 | 2 = 1, capacity = 320 * 1024) {
    this.#version = version;
    this.#buffer = Buffer.allocUnsafeSlow(capacity);
    this.#other = Buffer.allocUnsafeSlow(capacity);
  }

  /** Bytes that wait to be taken. */
  get size(): number {
    return this.#size;
  }

  /** The bytes encoded since the last call; they stay as they are until the next one. */
  take(): Buffer {
    const taken = this.#buffer.subarray(0, this.#size);
    [this.#buffer, this.#other] = [this.#other, this.#buffer];
    this.#size = 0;
    return taken;
  }

  /** Appends a command. Throws LIMIT_EXCEEDED for an attribute of 64 KiB or more. */
  add(command: SendCommand): void {
    const { code, attributes } = COMMANDS[command.op];
    const start = this.#size;
    this.#reserve(COMMAND_HEADER_BYTES);
    this.#size += COMMAND_HEADER_BYTES;
    const values = command as unknown as Readonly<Record<Attribute, AttributeValue>>;
    for (const name of attributes) this.#attribute(name, values[name], command);
    this.#buffer.writeUInt32LE(this.#size - start - COMMAND_HEADER_BYTES, start);
    this.#buffer.writeUInt16LE(code, start + 4);
    this.#buffer.writeUInt32LE(0, start + 6);
    this.#buffer.writeUInt32LE(crc32c(this.#buffer, start, this.#size), start + 6);
  }

  #attribute(name: Attribute, value: AttributeValue, command: SendCommand): void {
    const { code, kind } = ATTRIBUTES[name];
    const size = sizeOf(kind, value);
    const sizeless = this.#version === 2 && name === 'data';
    if (size > MAX_ATTRIBUTE_BYTES && !sizeless) {
      throw new SnapgateError('LIMIT_EXCEEDED', `the ${name} of ${command.op} has ${size} bytes`);
    }
    this.#reserve(4 + size);
    const at = this.#buffer.writeUInt16LE(code, this.#size);
    this.#size = sizeless ? at : this.#buffer.writeUInt16LE(size, at);
    this.#value(kind, value);
  }

  #value(kind: (typeof ATTRIBUTES)[Attribute]['kind'], value: AttributeValue): void {
    const buffer = this.#buffer;
    const at = this.#size;
    if (typeof value === 'string') this.#size += buffer.write(value, at, 'latin1');
    else if (value instanceof Uint8Array) {
      buffer.set(value, at);
      this.#size += value.length;
    } else if (typeof value === 'number') {
      this.#size = kind === 'u32' ? buffer.writeUInt32LE(value, at) : writeU64(buffer, value, at);
    } else {
      // A negative number of seconds is written as two's complement by its floored high half.
      writeU64(buffer, value.seconds, at);
      this.#size = buffer.writeUInt32LE(value.nanoseconds, at + 8);
    }
  }

  #reserve(bytes: number): void {
    const needed = this.#size + bytes;
    if (needed <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2));
    this.#buffer.copy(larger, 0, 0, this.#size);
    this.#buffer = larger;
  }
}

function sizeOf(kind: (typeof ATTRIBUTES)[Attribute]['kind'], value: AttributeValue): number {
  if (typeof value === 'string' || value instanceof Uint8Array) return value.length;
  if (kind === 'time') return 12;
  return kind === 'u32' ? 4 : 8;
}

function writeU64(buffer: Buffer, value: number, at: number): number {
  const high = Math.floor(value / TWO_32);
  buffer.writeUInt32LE(value - high * TWO_32, at);
  return buffer.writeUInt32LE(high >>> 0, at + 4);
}

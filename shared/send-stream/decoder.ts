import { SnapgateError } from '../errors.ts';
import { crc32c } from './crc32c.ts';
import {
  ATTRIBUTES,
  type Attribute,
  type AttributeValue,
  COMMAND_HEADER_BYTES,
  COMMANDS,
  type CommandName,
  MAGIC,
  type SendCommand,
  STREAM_HEADER_BYTES,
} from './format.ts';

/** Largest command accepted: the largest that Linux writes is an encoded extent of 128 KiB. */
const MAX_COMMAND_BYTES = 8 * 1024 * 1024;

const COMMAND_NAMES = new Map(
  Object.entries(COMMANDS).map(([name, { code }]) => [code as number, name as CommandName]),
);
const ATTRIBUTE_NAMES = new Map(
  Object.entries(ATTRIBUTES).map(([name, { code }]) => [code as number, name as Attribute]),
);

function invalid(message: string): SnapgateError {
  return new SnapgateError('STORAGE_INVALID', `send stream: ${message}`);
}

/**
 * Decodes a send stream in memory, command by command, `end` included. Buffers of the commands are
 * views of `stream`. Unknown attributes are passed over. Throws STORAGE_INVALID.
 */
export function* decodeSendStream(stream: Buffer): Generator<SendCommand, void, void> {
  if (stream.length < STREAM_HEADER_BYTES || !stream.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw invalid('no header');
  }
  const version = stream.readUInt32LE(MAGIC.length);
  if (version !== 1 && version !== 2) throw invalid(`unknown version ${version}`);
  let at = STREAM_HEADER_BYTES;
  while (at < stream.length) {
    if (stream.length - at < COMMAND_HEADER_BYTES) throw invalid('ends inside a command');
    const size = stream.readUInt32LE(at);
    const end = at + COMMAND_HEADER_BYTES + size;
    if (size > MAX_COMMAND_BYTES || end > stream.length) throw invalid('ends inside a command');
    checkCrc(stream, at, end);
    const command = COMMAND_NAMES.get(stream.readUInt16LE(at + 4));
    if (command === undefined) throw invalid(`unknown command ${stream.readUInt16LE(at + 4)}`);
    yield decodeCommand(command, stream.subarray(at + COMMAND_HEADER_BYTES, end), version);
    at = end;
  }
}

function checkCrc(stream: Buffer, start: number, end: number): void {
  const header = Buffer.from(stream.subarray(start, start + COMMAND_HEADER_BYTES));
  const stated = header.readUInt32LE(6);
  header.writeUInt32LE(0, 6);
  const actual = crc32c(stream, start + COMMAND_HEADER_BYTES, end, crc32c(header));
  if (stated !== actual) throw invalid('a command has a wrong checksum');
}

function decodeCommand(op: CommandName, bytes: Buffer, version: 1 | 2): SendCommand {
  const values: Partial<Record<Attribute, AttributeValue>> = {};
  let at = 0;
  while (at < bytes.length) {
    if (bytes.length - at < 4 && !(version === 2 && bytes.length - at >= 2)) {
      throw invalid(`an attribute of ${op} is cut short`);
    }
    const name = ATTRIBUTE_NAMES.get(bytes.readUInt16LE(at));
    const sizeless = version === 2 && name === 'data';
    if (!sizeless && bytes.length - at < 4) throw invalid(`an attribute of ${op} is cut short`);
    const start = at + (sizeless ? 2 : 4);
    const end = sizeless ? bytes.length : start + bytes.readUInt16LE(at + 2);
    if (end > bytes.length) throw invalid(`an attribute of ${op} is cut short`);
    if (name !== undefined) values[name] = decodeValue(name, bytes.subarray(start, end));
    at = end;
  }
  const wanted: readonly Attribute[] = COMMANDS[op].attributes;
  const entries = wanted.map((name) => {
    const value = values[name];
    if (value === undefined) throw invalid(`${op} has no ${name}`);
    return [name, value] as const;
  });
  return { op, ...Object.fromEntries(entries) } as unknown as SendCommand;
}

function decodeValue(name: Attribute, bytes: Buffer): AttributeValue {
  const { kind } = ATTRIBUTES[name];
  const expected = { text: bytes.length, bytes: bytes.length, u64: 8, u32: 4, time: 12 }[kind];
  if (bytes.length !== expected) throw invalid(`${name} has ${bytes.length} bytes`);
  if (kind === 'text') return bytes.toString('latin1');
  if (kind === 'bytes') return bytes;
  if (kind === 'u32') return bytes.readUInt32LE(0);
  if (kind === 'u64') return safe(name, bytes.readBigUInt64LE(0));
  return { seconds: safe(name, bytes.readBigInt64LE(0)), nanoseconds: bytes.readUInt32LE(8) };
}

function safe(name: Attribute, value: bigint): number {
  const number = Number(value);
  if (Number.isSafeInteger(number)) return number;
  throw invalid(`${name} is too large`);
}

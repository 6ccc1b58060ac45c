import { type ByteReader, type ByteWriter, invalidDelta } from './bytes.ts';
import {
  AddressMap,
  type AddressMapParts,
  type AddressStretch,
  MAX_INTERVALS,
  MAX_STRETCHES,
} from './prediction.ts';

type MapReaders = {
  readonly commands: ByteReader;
  readonly lengths: ByteReader;
  readonly seeks: ByteReader;
};
type MapWriters = {
  readonly commands: ByteWriter;
  readonly lengths: ByteWriter;
  readonly seeks: ByteWriter;
};

/** Reads a map (FORMAT.md section 6.1). Throws DELTA_INVALID. */
export function readAddressMap({ commands, lengths, seeks }: MapReaders): AddressMap {
  const source = readStretches(commands);
  const content = readStretches(commands);
  const count = commands.number();
  // Each interval has a byte at least: a count beyond what is there is no reason to allocate.
  if (count === 0 || count > MAX_INTERVALS || count > lengths.left) {
    throw invalidDelta('a map has no intervals or too many');
  }
  const starts = new Float64Array(count);
  const shifts = new Float64Array(count);
  let start = 0;
  let shift = 0;
  for (let i = 0; i < count; i += 1) {
    start += lengths.number();
    shift += seeks.signed();
    starts[i] = start;
    shifts[i] = shift;
  }
  return new AddressMap({ source, content, starts, shifts });
}

function readStretches(commands: ByteReader): AddressStretch[] {
  const count = commands.number();
  if (count === 0 || count > MAX_STRETCHES)
    throw invalidDelta('a map has no stretches or too many');
  return Array.from({ length: count }, () => ({
    offset: commands.number(),
    length: commands.number(),
    address: commands.signed(),
  }));
}

export function writeAddressMap(output: MapWriters, parts: AddressMapParts): void {
  const { commands, lengths, seeks } = output;
  for (const stretches of [parts.source, parts.content]) {
    commands.number(stretches.length);
    for (const { offset, length, address } of stretches) {
      commands.number(offset);
      commands.number(length);
      commands.signed(address);
    }
  }
  commands.number(parts.starts.length);
  let start = 0;
  let shift = 0;
  for (const [i, at] of parts.starts.entries()) {
    lengths.number(at - start);
    seeks.signed((parts.shifts[i] ?? 0) - shift);
    start = at;
    shift = parts.shifts[i] ?? 0;
  }
}

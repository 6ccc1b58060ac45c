import * as v from 'valibot';
import { SnapgateError } from '../../shared/errors.ts';
import { readIfThere, writeFileDurably, writeFileLightly } from './files.ts';

/** Writes a record as JSON, whole and for good. */
export async function writeRecord(path: string, record: object): Promise<void> {
  await writeFileDurably(path, format(record));
}

/** Writes a record whole that can be done without: a crash may take it back, or leave it damaged. */
export async function writeHint(path: string, record: object): Promise<void> {
  await writeFileLightly(path, format(record));
}

function format(record: object): string {
  return `${JSON.stringify(record, undefined, 2)}\n`;
}

/**
 * Reads a JSON record; undefined when there is none. Throws STORAGE_INVALID for one that is not in
 * its form: records are written whole, so somebody else was there.
 */
export async function readRecord<T>(
  path: string,
  schema: v.GenericSchema<unknown, T>,
): Promise<T | undefined> {
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  const parsed = v.safeParse(schema, parseJson(text));
  if (parsed.success) return parsed.output;
  throw new SnapgateError('STORAGE_INVALID', 'a record is damaged', {
    where: path,
    hint: 'Remove the file; what it says is found out anew or given up.',
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

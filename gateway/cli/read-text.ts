import { readFile } from 'node:fs/promises';
import { SnapgateError } from '../../shared/errors.ts';

/** Reads a text file that somebody named; `what` is it in the message. Throws CONFIG_INVALID. */
export async function readText(
  path: string,
  what: string,
  hint = 'Correct its path or its permissions.',
): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new SnapgateError('CONFIG_INVALID', `${what} cannot be read`, {
      where: path,
      hint,
      cause,
    });
  }
}

/** Reads a file that a field of the configuration names. Throws CONFIG_INVALID. */
export function readConfigured(path: string, field: string): Promise<string> {
  return readText(path, `${field}: the file`);
}

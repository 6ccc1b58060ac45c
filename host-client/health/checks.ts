import { constants } from 'node:fs';
import { access, readdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import { run } from '../system/run.ts';

/** Where checks stand; a file in an earlier folder replaces one of the same name in a later one. */
export const HEALTH_FOLDERS = ['/etc/snaphost/health.d', '/usr/lib/snaphost/health.d'] as const;

/** A program that says by its exit status whether the machine works. */
export type HealthCheck = {
  readonly path: string;
  /** A required check that fails sends the machine back; a wanted one is only reported. */
  readonly kind: 'required' | 'wanted';
};

/** How a check ended. */
export type HealthResult = HealthCheck & {
  readonly passed: boolean;
  /** Why it did not pass: its last words. */
  readonly reason?: string;
};

/**
 * Finds the checks: executable files in `required.d` and `wanted.d` of the folders, in the order of
 * their names. A link to /dev/null switches off a check of the image.
 */
export async function findChecks(
  folders: readonly string[] = HEALTH_FOLDERS,
): Promise<HealthCheck[]> {
  const found: HealthCheck[] = [];
  for (const kind of ['required', 'wanted'] as const) {
    const byName = new Map<string, HealthCheck>();
    for (const folder of folders) {
      for (const name of await readdir(join(folder, `${kind}.d`)).catch(() => [])) {
        const path = join(folder, `${kind}.d`, name);
        if (!byName.has(name)) byName.set(name, { path, kind });
      }
    }
    for (const check of byName.values()) {
      if (await isExecutable(check.path)) found.push(check);
    }
  }
  const order = ({ kind, path }: HealthCheck) => `${kind} ${basename(path)}`;
  return found.sort((a, b) => (order(a) < order(b) ? -1 : 1));
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}

/**
 * Runs checks one after the other, each for at most `timeoutSeconds`. All are run, so that the
 * report is whole.
 */
export async function runChecks(
  checks: readonly HealthCheck[],
  timeoutSeconds: number,
  signal?: AbortSignal,
): Promise<HealthResult[]> {
  const results: HealthResult[] = [];
  for (const check of checks) {
    const timeout = AbortSignal.timeout(timeoutSeconds * 1000);
    const ended = signal === undefined ? timeout : AbortSignal.any([timeout, signal]);
    try {
      await run(check.path, [], { signal: ended });
      results.push({ ...check, passed: true });
    } catch (thrown) {
      if (signal?.aborted) throw toSnapgateError(thrown);
      const reason = timeout.aborted ? `not done in ${timeoutSeconds} s` : lastWords(thrown);
      results.push({ ...check, passed: false, reason });
    }
  }
  return results;
}

function lastWords(thrown: unknown): string {
  return toSnapgateError(thrown).message.slice(-500);
}

/** Throws HEALTH_FAILED when a required check did not pass. */
export function requireHealthy(results: readonly HealthResult[]): void {
  const failed = results.filter(({ kind, passed }) => kind === 'required' && !passed);
  if (failed.length === 0) return;
  const reasons = failed.map(({ path, reason }) => `${path}: ${reason ?? 'failed'}`);
  throw new SnapgateError('HEALTH_FAILED', reasons.join('; '), {
    hint: 'The machine goes back to the version before when its tries are used up.',
  });
}

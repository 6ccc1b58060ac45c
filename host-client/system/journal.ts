import { fstatSync } from 'node:fs';

/**
 * Whether a file descriptor leads to the journal (systemd.exec(5), `$JOURNAL_STREAM`), which reads a
 * priority in front of each line: sd-daemon(3).
 */
export function isJournal(fd: number, env: NodeJS.ProcessEnv = process.env): boolean {
  const named = env.JOURNAL_STREAM;
  if (named === undefined) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return named === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

import { spawnSync } from 'node:child_process';
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ProgressReport } from '../../../host-client/cli/progress.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';

describe('in the journal', () => {
  it.for([
    ['has its priority', true, /^<3>snaphost: USAGE: .*\n<3>snaphost: Run .*\n$/],
    ['that is another stream has none', false, /^snaphost: USAGE: .*\nsnaphost: Run .*\n$/],
  ] as const)('a line %s', async ([, isOwn, expected], ctx) => {
    const path = join(await temporaryFolder(ctx), 'log');
    const fd = openSync(path, 'w');
    const { dev, ino } = fstatSync(fd, { bigint: true });
    const JOURNAL_STREAM = isOwn ? `${dev}:${ino}` : `${dev}:${ino + 1n}`;
    spawnSync(process.execPath, ['host-client/main.ts', 'nonsense'], {
      stdio: ['ignore', 'ignore', fd],
      env: { ...process.env, JOURNAL_STREAM },
    });
    closeSync(fd);
    expect(readFileSync(path, 'utf8')).toMatch(expected);
  });

  it('steps are information, and notices warnings', () => {
    const lines: string[] = [];
    const err = { write: (text: string) => lines.push(text) } as unknown as NodeJS.WritableStream;
    const progress = new ProgressReport({ out: err, err, json: false, hasPriorities: true });
    progress.step('plan');
    progress.notice('a\nb');
    expect(lines).toEqual(['<6>planning\n', '<4>note: a\n<4>b\n']);
  });
});

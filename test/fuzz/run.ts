import { argv, exit, stderr, stdout } from 'node:process';
import { fuzz } from './fuzz.ts';
import { TARGETS } from './targets.ts';

/** `node test/fuzz/run.ts [NAME|all] [SECONDS]`: feeds one parser, or each, for so long. */
const [name = 'all', seconds = '60'] = argv.slice(2);
const names = TARGETS.map((target) => target.name).filter((one) => name === 'all' || one === name);
if (names.length === 0 || !(Number(seconds) > 0)) {
  const known = TARGETS.map((target) => target.name).join(', ');
  stderr.write(`usage: fuzz [NAME] [SECONDS]; NAME is all or one of: ${known}\n`);
  exit(2);
}
let failures = 0;
for (const one of names) {
  const seed = Date.now() % 1e9;
  const { inputs, ends, failure } = await fuzz({
    ...{ name: one, seconds: Number(seconds), seed, keepNew: true },
  });
  if (failure === undefined) stdout.write(`${one}: ${inputs} inputs, ${ends} kinds of ends\n`);
  else {
    failures += 1;
    stdout.write(`${one}: FAILED, kept in ${failure.file}\n${failure.message}\n`);
  }
}
exit(failures > 0 ? 1 : 0);

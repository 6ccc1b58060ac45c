/**
 * Runs the benches and prints what test/bench/RESULTS.md holds: the machine, and the tables of each.
 * Run: `node test/bench/run.ts [NAME...]`, where a name is that of a file beside this one; all of
 * them when none is given. Ends with 1 when one of them failed.
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { arch, cpus, loadavg, release, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { formatBytes } from '../../shared/cli/format.ts';

const folder = fileURLToPath(new URL('.', import.meta.url));
const all = readdirSync(folder)
  .filter((file) => file.endsWith('.ts') && file !== 'run.ts')
  .map((file) => file.slice(0, -'.ts'.length))
  .sort();
const asked = process.argv.slice(2);
const unknown = asked.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  console.error(`no such bench: ${unknown.join(', ')}; there are: ${all.join(', ')}`);
  process.exit(2);
}

console.log(`${await machine()}\n`);
for (const name of asked.length > 0 ? asked : all) {
  console.log(`## ${name}\n\n\`\`\``);
  const { out, code } = await output([process.execPath, `${folder}${name}.ts`]);
  console.log(`${out.trimEnd()}\n\`\`\`\n`);
  if (code === 0) continue;
  console.log(`It ended with exit status ${code}.\n`);
  process.exitCode = 1;
}

async function machine(): Promise<string> {
  const system = /^PRETTY_NAME="?(.*?)"?$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const { out } = await output(['git', '-C', folder, 'describe', '--always', '--dirty']);
  const processor = `${cpus().length} cores (${cpus()[0]?.model.trim()}, ${arch()})`;
  return [
    `Measured on ${new Date().toISOString().slice(0, 10)} at ${out.trim() || 'an unknown commit'}:`,
    `${processor}, ${formatBytes(totalmem())} of memory,`,
    `${system}, Linux ${release()}, Node.js ${process.versions.node};`,
    `load average at the start ${loadavg()[0]?.toFixed(1)}.`,
  ].join(' ');
}

/** Standard output of a program; its standard error goes to the terminal. */
function output([program = '', ...args]: string[]): Promise<{ out: string; code: number }> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      out += chunk;
    });
    child.once('error', () => resolve({ out, code: 127 }));
    child.once('close', (code) => resolve({ out, code: code ?? 1 }));
  });
}

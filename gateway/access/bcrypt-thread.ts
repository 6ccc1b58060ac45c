import { parentPort } from 'node:worker_threads';
import { compareSync } from 'bcryptjs';
import type { BcryptAnswer, BcryptTask } from './bcrypt.ts';

/** Compares passwords with their hashes, one after the other, beside the thread that answers. */

const port = parentPort;
if (port === null) throw new Error('this is the program of a worker thread');
port.on('message', ({ id, password, hash }: BcryptTask) => {
  const answer: BcryptAnswer = { id, isRight: compareSync(password, hash) };
  port.postMessage(answer);
});

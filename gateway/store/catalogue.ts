import { mkdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite';
import type { Digest } from '../../shared/digest.ts';
import type { DeltaFacts, GateRecord, ImageFacts, JobRecord } from './facts.ts';

/** Raised whenever the tables change: an older file is then thrown away and filled anew. */
const SCHEMA_VERSION = 3;
const SCHEMA = `
  CREATE TABLE manifest (
    repository TEXT NOT NULL, digest TEXT NOT NULL, config TEXT NOT NULL, facts TEXT,
    PRIMARY KEY (repository, digest)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX manifest_config ON manifest (repository, config);
  CREATE TABLE referrer (
    repository TEXT NOT NULL, digest TEXT NOT NULL, facts TEXT,
    PRIMARY KEY (repository, digest)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE job (
    id TEXT PRIMARY KEY, finished_at INTEGER NOT NULL, record TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX job_finished ON job (finished_at);
  CREATE TABLE gate (
    repository TEXT NOT NULL, policy TEXT NOT NULL, digest TEXT NOT NULL,
    outcome TEXT NOT NULL, until INTEGER NOT NULL,
    PRIMARY KEY (repository, policy, digest)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE gate_reach (
    repository TEXT NOT NULL, policy TEXT NOT NULL, kind TEXT NOT NULL, reached TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (repository, policy, kind, reached, digest)
  ) STRICT, WITHOUT ROWID;
`;
/** Most finished jobs kept. */
const MAX_JOBS = 10_000;

/**
 * What the gateway remembers of the registry: which manifest has which config, what deltas hold,
 * how jobs ended. It is a cache: all of it can be learned again, so a file that is damaged or of
 * another version is replaced by an empty one. Everything in it is named by digest and never goes
 * stale; what was deleted from the registry is noticed when it is used.
 */
export class Catalogue {
  readonly #db: DatabaseSync;

  private constructor(db: DatabaseSync) {
    this.#db = db;
  }

  /** Opens the database at a path, or in memory for `:memory:`. */
  static open(path: string): Catalogue {
    if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true });
    try {
      return new Catalogue(openDatabase(path));
    } catch (thrown) {
      if (path === ':memory:' || !isDamaged(thrown)) throw thrown;
      removeDatabase(path);
      return new Catalogue(openDatabase(path));
    }
  }

  close(): void {
    this.#db.close();
  }

  /** Shows that the database can be written. Throws what SQLite says when it cannot. */
  probe(): void {
    this.#run("INSERT OR REPLACE INTO job VALUES ('probe', 0, '{}')");
    this.removeJob('probe');
  }

  /** Remembers which config a manifest has; cheap, learned from the manifest alone. */
  addManifest(repository: string, digest: Digest, config: Digest): void {
    this.#run(
      'INSERT INTO manifest VALUES (?, ?, ?, NULL) ON CONFLICT DO NOTHING',
      ...[repository, digest, config],
    );
  }

  addImage(repository: string, image: ImageFacts): void {
    this.#run(
      `INSERT INTO manifest VALUES (?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET facts = excluded.facts`,
      ...[repository, image.manifest, image.config, JSON.stringify(image)],
    );
  }

  /** All that is known of an image, or undefined when nothing or not all is known. */
  image(repository: string, manifest: Digest): ImageFacts | undefined {
    const row = this.#get(
      'SELECT facts FROM manifest WHERE repository = ? AND digest = ?',
      ...[repository, manifest],
    );
    return parse<ImageFacts>(row?.facts);
  }

  hasManifest(repository: string, manifest: Digest): boolean {
    const sql = 'SELECT 1 AS found FROM manifest WHERE repository = ? AND digest = ?';
    return this.#get(sql, repository, manifest) !== undefined;
  }

  /** Digests of the manifests that have a config, in a fixed order. */
  manifestsOf(repository: string, config: Digest): Digest[] {
    const rows = this.#db
      .prepare('SELECT digest FROM manifest WHERE repository = ? AND config = ? ORDER BY digest')
      .all(repository, config);
    return rows.map((row) => row.digest as Digest);
  }

  /** Forgets a manifest that turned out to be gone. */
  removeManifest(repository: string, manifest: Digest): void {
    this.#run('DELETE FROM manifest WHERE repository = ? AND digest = ?', repository, manifest);
  }

  /** Remembers a referrer; `undefined` facts say that it is no delta. */
  addReferrer(repository: string, digest: Digest, facts: DeltaFacts | undefined): void {
    this.#run(
      'INSERT OR REPLACE INTO referrer VALUES (?, ?, ?)',
      ...[repository, digest, facts === undefined ? null : JSON.stringify(facts)],
    );
  }

  /** A known referrer: the facts of a delta, `other`, or undefined when it is not known. */
  referrer(repository: string, digest: Digest): DeltaFacts | 'other' | undefined {
    const row = this.#get(
      'SELECT facts FROM referrer WHERE repository = ? AND digest = ?',
      ...[repository, digest],
    );
    return row === undefined ? undefined : (parse<DeltaFacts>(row.facts) ?? 'other');
  }

  addJob(job: JobRecord): void {
    this.#run(
      'INSERT OR REPLACE INTO job VALUES (?, ?, ?)',
      ...[job.id, job.finishedAt, JSON.stringify(job)],
    );
    this.#run(
      `DELETE FROM job WHERE finished_at <
       (SELECT finished_at FROM job ORDER BY finished_at DESC LIMIT 1 OFFSET ?)`,
      MAX_JOBS,
    );
  }

  job(id: string): JobRecord | undefined {
    return parse<JobRecord>(this.#get('SELECT record FROM job WHERE id = ?', id)?.record);
  }

  removeJob(id: string): void {
    this.#run('DELETE FROM job WHERE id = ?', id);
  }

  /** Remembers that a manifest was let through, and what it reaches. */
  addGateOutcome({ repository, policy, manifest, outcome, until, ...reached }: GateRecord): void {
    const insert = this.#db.prepare('INSERT OR IGNORE INTO gate_reach VALUES (?, ?, ?, ?, ?)');
    this.#db.exec('BEGIN');
    try {
      for (const digest of reached.blobs) insert.run(repository, policy, 'blob', digest, manifest);
      for (const digest of reached.manifests) {
        insert.run(repository, policy, 'manifest', digest, manifest);
      }
      this.#run(
        'INSERT OR REPLACE INTO gate VALUES (?, ?, ?, ?, ?)',
        ...[repository, policy, manifest, outcome, until],
      );
      this.#db.exec('COMMIT');
    } catch (thrown) {
      this.#db.exec('ROLLBACK');
      throw thrown;
    }
  }

  /** How a manifest was let through, as far as that still holds at `now`. */
  gateOutcome(
    repository: string,
    policy: Digest,
    manifest: Digest,
    now: number,
  ): GateRecord['outcome'] | undefined {
    const row = this.#get(
      'SELECT outcome FROM gate WHERE repository = ? AND policy = ? AND digest = ? AND until > ?',
      ...[repository, policy, manifest, now],
    );
    return row?.outcome as GateRecord['outcome'] | undefined;
  }

  /** Whether a manifest that was let through names a blob. */
  reachesBlob(repository: string, policy: Digest, blob: string, now: number): boolean {
    return this.#reaching(repository, policy, 'blob', blob, now) !== undefined;
  }

  /** An index that was let through and names a manifest. */
  indexOf(repository: string, policy: Digest, manifest: Digest, now: number): Digest | undefined {
    return this.#reaching(repository, policy, 'manifest', manifest, now);
  }

  #reaching(
    ...[repository, policy, kind, reached, now]: [string, string, string, string, number]
  ): Digest | undefined {
    const row = this.#get(
      `SELECT r.digest FROM gate_reach r JOIN gate g USING (repository, policy, digest)
       WHERE r.repository = ? AND r.policy = ? AND r.kind = ? AND r.reached = ? AND g.until > ?
       LIMIT 1`,
      ...[repository, policy, kind, reached, now],
    );
    return row?.digest as Digest | undefined;
  }

  #run(sql: string, ...values: (string | number | null)[]): void {
    this.#db.prepare(sql).run(...values);
  }

  #get(
    sql: string,
    ...values: (string | number | null)[]
  ): Record<string, SQLOutputValue> | undefined {
    return this.#db.prepare(sql).get(...values);
  }
}

function parse<T>(json: SQLOutputValue | undefined): T | undefined {
  return typeof json === 'string' ? (JSON.parse(json) as T) : undefined;
}

function openDatabase(path: string): DatabaseSync {
  const db = new DatabaseSync(path, { timeout: 5000 });
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;');
    const version = Number(db.prepare('PRAGMA user_version').get()?.user_version ?? 0);
    if (version === SCHEMA_VERSION) return db;
    if (version !== 0) throw Object.assign(new Error('another schema'), { errcode: NOT_A_DB });
    db.exec(`BEGIN; ${SCHEMA} PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT;`);
    return db;
  } catch (thrown) {
    db.close();
    throw thrown;
  }
}

/** SQLITE_ERROR (tables missing or there already), SQLITE_CORRUPT and SQLITE_NOTADB. */
const NOT_A_DB = 26;
const DAMAGED = new Set([1, 11, NOT_A_DB]);

function isDamaged(thrown: unknown): boolean {
  return DAMAGED.has(Number((thrown as { errcode?: number }).errcode) & 0xff);
}

function removeDatabase(path: string): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true });
}

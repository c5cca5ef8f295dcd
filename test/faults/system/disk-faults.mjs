/**
 * Preloaded into a process under test: its writes below one folder fail as on a full disk or a
 * dying machine, as ordered by files in another folder. Both leave half of the bytes behind.
 *
 *   disk-full         every write fails with ENOSPC while the file exists
 *   tear-<process>    the file holds a number n: the process kills itself in its n-th write
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import path from 'node:path';

const { folder, orders, process: name } = JSON.parse(process.env.DISK_FAULTS);
const full = path.join(orders, 'disk-full');
const tear = path.join(orders, `tear-${name}`);
const { open, mkdir } = fs.promises;

fs.promises.open = async (file, flags, ...rest) => {
  const handle = await open(file, flags, ...rest);
  if (!isWatched(file) || !/[wa+]/.test(String(flags))) return handle;
  const write = handle.writeFile.bind(handle);
  handle.writeFile = async (bytes, ...more) => {
    const half = bytes.subarray(0, bytes.byteLength >> 1);
    if (fs.existsSync(full)) {
      await write(half);
      throw noSpace('write');
    }
    if (tornNow()) {
      await write(half);
      process.kill(process.pid, 'SIGKILL');
    }
    return await write(bytes, ...more);
  };
  return handle;
};

fs.promises.mkdir = async (directory, ...rest) => {
  if (isWatched(directory) && !fs.existsSync(directory) && fs.existsSync(full))
    throw noSpace('mkdir');
  return await mkdir(directory, ...rest);
};

syncBuiltinESMExports();

function isWatched(file) {
  return String(file).startsWith(folder + path.sep);
}

function tornNow() {
  let left;
  try {
    left = Number(fs.readFileSync(tear, 'utf8')) - 1;
  } catch {
    return false;
  }
  if (left > 0) fs.writeFileSync(tear, String(left));
  else fs.rmSync(tear, { force: true });
  return left <= 0;
}

function noSpace(syscall) {
  return Object.assign(new Error(`ENOSPC: no space left on device, ${syscall}`), {
    code: 'ENOSPC',
    errno: -28,
    syscall,
  });
}

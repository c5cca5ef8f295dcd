/**
 * Finds a Python with PyTorch: the one named by ERRATA_PYTHON, or a virtual environment in the data
 * folder, created on demand with the packages pinned in requirements.txt.
 */
import { existsSync } from 'node:fs';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Progress } from '../../infra/setup/progress.ts';
import { runClient } from '../../infra/setup/provision/client-process.ts';
import { during } from '../command.ts';

const REQUIREMENTS = fileURLToPath(new URL('requirements.txt', import.meta.url));
const ENVIRONMENT_WAIT_MS = 120_000;
/** PyTorch's CUDA build and its libraries are a download of about 2.5 GB. */
const INSTALL_WAIT_MS = 3_600_000;
const IMPORT_WAIT_MS = 120_000;
const PIP_SETTINGS = { PIP_DISABLE_PIP_VERSION_CHECK: '1', PIP_PROGRESS_BAR: 'off' };

/**
 * Returns the interpreter's path. Throws ProvisionError if packages cannot be installed, or if the
 * named interpreter lacks them.
 */
export async function pythonWithTorch(
  home: string,
  progress: Progress,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<string> {
  const named = environment['ERRATA_PYTHON'];
  if (named !== undefined && named !== '') {
    await runClient({
      executable: named,
      args: ['-c', 'import safetensors, torch, transformers'],
      folder: home,
      waitMs: IMPORT_WAIT_MS,
      hint:
        `ERRATA_PYTHON must name a Python with the packages of ${REQUIREMENTS}; ` +
        'without it an environment is made in the data folder.',
    });
    return named;
  }
  return installed(path.join(home, 'reference-venv'), progress);
}

async function installed(folder: string, progress: Progress): Promise<string> {
  const python = path.join(folder, 'bin', 'python');
  const stamp = path.join(folder, 'installed-requirements.txt');
  const wanted = await readFile(REQUIREMENTS, 'utf8');
  if (existsSync(python) && (await readFile(stamp, 'utf8').catch(() => null)) === wanted)
    return python;
  const hint =
    'To use a Python that has the packages already, name it by ERRATA_PYTHON. pip takes its ' +
    'index and proxy from its own settings (pip config list).';
  await rm(folder, { recursive: true, force: true });
  await during(progress, 'Installing PyTorch for the comparison', async () => {
    await runClient({
      executable: 'python3',
      args: ['-m', 'venv', folder],
      folder: path.dirname(folder),
      waitMs: ENVIRONMENT_WAIT_MS,
      hint,
    });
    await runClient({
      executable: python,
      args: ['-m', 'pip', 'install', '--no-input', '--requirement', REQUIREMENTS],
      folder,
      environment: { ...process.env, ...PIP_SETTINGS },
      waitMs: INSTALL_WAIT_MS,
      hint,
    });
    // Written last and atomically, so that an interrupted installation starts again.
    await writeFile(`${stamp}.partial`, wanted);
    await rename(`${stamp}.partial`, stamp);
  });
  return python;
}

/**
 * Installs TensorFlow's CUDA build, loads it and multiplies with it, to test the build before it
 * runs on a GPU. Exits with 0 even if it finds no GPU.
 */
import { deviceSeen, loadTensorFlow, tensorflowVersion } from '../../../model/tensor/tensorflow.ts';
import { homeFromEnvironment } from '../../config/home.ts';
import { messageOf } from '../../../schemas/failures.ts';
import { progressOn } from '../progress.ts';
import { provision } from './index.ts';

const home = homeFromEnvironment();
try {
  await provision(['tensorflow'], { home, device: 'gpu', progress: progressOn(process.stderr) });
  const tf = loadTensorFlow(home.tensorflow('gpu').addon);
  const matrix = tf.tensor2d([
    [1, 2],
    [3, 4],
  ]);
  const product = tf.matMul(matrix, matrix).dataSync().join(', ');
  if (product !== '7, 10, 15, 22')
    throw new Error(`The square of [[1, 2], [3, 4]] came out as ${product}.`);
  const seen = deviceSeen() === 'gpu' ? 'a GPU' : 'no GPU and runs on the processor';
  process.stdout.write(
    `TensorFlow ${tensorflowVersion()}, CUDA build: loads and multiplies. It found ${seen}.\n`,
  );
} catch (error) {
  process.stderr.write(`\n${messageOf(error)}\n`);
  process.exitCode = 1;
}

// The extension module doh._train: the fused training step (cpp/train) on a caller's arrays, NumPy's or torch's.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <chrono>
#include <string>
#include <vector>

#include "train/adam.h"
#include "train/kernels.h"
#include "train/pool.h"
#include "train/step.h"
#include "train/tied.h"
#include "train/trellis.h"

namespace nb = nanobind;

namespace doh::train {
namespace {

// Always taken with .noconvert(): a conversion would copy an array, and results would go into the copy.
template <class T, size_t dims>
using Array = nb::ndarray<T, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;
using Name = std::optional<std::string>;

template <class S>
const Kernel<S>& kernel_of(const Name& name);

template <>
const Kernel<float>& kernel_of(const Name& name) {
  const Kernel<float>* const kernel = find_kernel(name ? name->c_str() : nullptr);
  if (kernel == nullptr) throw nb::value_error("no such kernel, or not for this processor: see kernels(), and the variable DOH_TRAIN_KERNEL");
  return *kernel;
}

template <>
const Kernel<double>& kernel_of(const Name& name) {
  if (name && *name != kernel_double.name) throw nb::value_error("there is one kernel for float64: double");
  return kernel_double;
}

void want(const char* what, size_t found, size_t wanted) {
  if (found != wanted)
    throw nb::value_error((std::string(what) + ": " + std::to_string(found) + " where there must be " + std::to_string(wanted)).c_str());
}

template <class S>
Network<S> network_of(size_t inputs, const Array<const S, 1>& weights, const Array<const S, 2>& biases, const Array<const S, 1>& output_bias) {
  const Network<S> net{inputs, biases.shape(1), biases.shape(0), output_bias.shape(0), weights.data(), biases.data(), output_bias.data()};
  if (net.inputs == 0 || net.width == 0 || net.depth == 0 || net.channels == 0)
    throw nb::value_error("a network has inputs, units, sine layers and channels");
  want("numbers in weights", weights.size(), net.weight_count());
  return net;
}

template <class S>
double run(const Name& kernel, const Network<S>& net, const Batch<S>& batch, S* gradient, unsigned threads) {
  const Kernel<S>& chosen = kernel_of<S>(kernel);
  const nb::gil_scoped_release release;
  return step(chosen, net, batch, gradient, threads);
}

template <class S>
void forward(const Array<const S, 2>& inputs, const Array<const S, 1>& weights, const Array<const S, 2>& biases, const Array<const S, 1>& output_bias,
             const Array<S, 2>& outputs, unsigned threads, const Name& kernel) {
  const Network<S> net = network_of<S>(inputs.shape(1), weights, biases, output_bias);
  want("rows of outputs", outputs.shape(0), inputs.shape(0));
  want("columns of outputs", outputs.shape(1), net.channels);
  Batch<S> batch;
  batch.count = inputs.shape(0);
  batch.inputs = inputs.data();
  batch.outputs = outputs.data();
  run<S>(kernel, net, batch, nullptr, threads);
}

template <class S>
void backward(const Array<const S, 2>& inputs, const Array<const S, 2>& output_gradient, const Array<const S, 1>& weights,
              const Array<const S, 2>& biases, const Array<const S, 1>& output_bias, const Array<S, 1>& gradient,
              const std::optional<Array<S, 2>>& input_gradient, unsigned threads, const Name& kernel) {
  const Network<S> net = network_of<S>(inputs.shape(1), weights, biases, output_bias);
  want("rows of output_gradient", output_gradient.shape(0), inputs.shape(0));
  want("columns of output_gradient", output_gradient.shape(1), net.channels);
  want("numbers in gradient", gradient.size(), net.count());
  Batch<S> batch;
  batch.count = inputs.shape(0);
  batch.inputs = inputs.data();
  batch.output_gradient = output_gradient.data();
  if (input_gradient) {
    want("rows of input_gradient", input_gradient->shape(0), inputs.shape(0));
    want("columns of input_gradient", input_gradient->shape(1), net.inputs);
    batch.input_gradient = input_gradient->data();
  }
  run<S>(kernel, net, batch, gradient.data(), threads);
}

// The dimensions of a grid, and how many points and inputs it has.
template <class S>
struct Grid {
  std::vector<Table<S>> dimensions;
  size_t points = 1, inputs = 0;

  explicit Grid(const std::vector<Array<const S, 2>>& tables) {
    if (tables.size() > kMaxDimensions) throw nb::value_error("a grid has at most 8 dimensions");
    for (const auto& table : tables) {
      if (table.size() == 0 || points > (size_t{1} << 62) / table.shape(0))
        throw nb::value_error("a table has at least one row and column, and a grid fewer than 2^62 points");
      dimensions.push_back({table.data(), table.shape(0), table.shape(1)});
      inputs += table.shape(1);
      points *= table.shape(0);
    }
  }
};

template <class S>
void grid_forward(const Array<const int64_t, 1>& points, const std::vector<Array<const S, 2>>& tables, const Array<const S, 1>& weights,
                  const Array<const S, 2>& biases, const Array<const S, 1>& output_bias, const Array<S, 2>& outputs, unsigned threads,
                  const Name& kernel) {
  const Grid<S> grid(tables);
  const Network<S> net = network_of<S>(grid.inputs, weights, biases, output_bias);
  want("rows of outputs", outputs.shape(0), points.shape(0));
  want("columns of outputs", outputs.shape(1), net.channels);
  Batch<S> batch;
  batch.count = points.shape(0);
  batch.points = points.data();
  batch.tables = grid.dimensions;
  batch.outputs = outputs.data();
  run<S>(kernel, net, batch, nullptr, threads);
}

template <class S>
double grid_step(const Array<const int64_t, 1>& points, const std::vector<Array<const S, 2>>& tables,
                 const nb::ndarray<nb::ro, nb::ndim<2>, nb::c_contig, nb::device::cpu>& samples, double low, double top, double factor,
                 const Array<const S, 1>& weights, const Array<const S, 2>& biases, const Array<const S, 1>& output_bias, const Array<S, 1>& gradient,
                 unsigned threads, const Name& kernel, const std::optional<Array<const S, 1>>& importance) {
  const Grid<S> grid(tables);
  const Network<S> net = network_of<S>(grid.inputs, weights, biases, output_bias);
  want("rows of samples", samples.shape(0), grid.points);
  want("columns of samples", samples.shape(1), net.channels);
  want("numbers in gradient", gradient.size(), net.count());
  Batch<S> batch;
  batch.count = points.shape(0);
  batch.points = points.data();
  batch.tables = grid.dimensions;
  batch.samples = samples.data();
  const nb::dlpack::dtype type = samples.dtype();
  if (type == nb::dtype<uint8_t>())
    batch.type = SampleType::u8;
  else if (type == nb::dtype<int16_t>())
    batch.type = SampleType::s16;
  else if (type == nb::dtype<int32_t>())
    batch.type = SampleType::s32;
  else
    throw nb::type_error("samples must be uint8, int16 or int32");
  batch.low = static_cast<S>(low);
  batch.top = static_cast<S>(top);
  batch.factor = static_cast<S>(factor);
  if (importance) {
    want("numbers in importance", importance->size(), batch.count);
    batch.importance = importance->data();
  }
  return run<S>(kernel, net, batch, gradient.data(), threads);
}

template <class S>
void waves(const Array<const S, 1>& phases, const Array<S, 1>& sines, const Array<S, 1>& cosines, const Name& kernel) {
  want("numbers in sines", sines.size(), phases.size());
  want("numbers in cosines", cosines.size(), phases.size());
  kernel_of<S>(kernel).waves(phases.data(), phases.size(), sines.data(), cosines.data());
}

double peak(double seconds, unsigned threads, const Name& name) {
  const Kernel<float>& kernel = kernel_of<float>(name);
  const nb::gil_scoped_release release;
  using Clock = std::chrono::steady_clock;
  double best = 0;
  const Clock::time_point stop = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  do {
    constexpr double kCount = 1e7;
    const size_t items = size_t{8} * (threads == 0 ? 1 : threads);
    std::vector<double> done(items);
    const Clock::time_point start = Clock::now();
    for_each(threads, items, [&](size_t item, unsigned) { done[item] = kernel.multiply_adds(kCount); });
    const double elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    double total = 0;
    for (const double count : done) total += count;
    best = total / elapsed > best ? total / elapsed : best;
  } while (Clock::now() < stop);
  return best;
}

void rounded_values(const Array<const float, 1>& values, double step, const Array<float, 1>& out) {
  want("numbers in out", out.size(), values.size());
  rounded(values.data(), values.size(), static_cast<float>(step), out.data());
}

void nearest_latents(const Array<const float, 1>& values, double step, unsigned state, const Array<int32_t, 1>& out) {
  want("numbers in out", out.size(), values.size());
  if (state > 255) throw nb::value_error("a state is 0 to 255");
  const nb::gil_scoped_release release;
  nearest_on_trellis({values.data(), values.size()}, static_cast<float>(step), static_cast<uint8_t>(state), {out.data(), out.size()});
}

using Indices = Array<const int64_t, 1>;
using Signs = Array<const int8_t, 1>;
using Numbers = Array<const float, 1>;

void weights_of_latents(const Numbers& latents, const Indices& index, const Signs& sign, const Numbers& gain, const Array<float, 1>& out) {
  want("numbers in sign", sign.size(), index.size());
  want("numbers in gain", gain.size(), index.size());
  want("numbers in out", out.size(), index.size());
  tied_weights({latents.data(), latents.size()}, index.data(), sign.data(), gain.data(), {out.data(), out.size()});
}

void gradient_of_latents(const Numbers& gradient, const Array<const int64_t, 2>& inverse, const Signs& sign, const Numbers& gain,
                         const Array<float, 1>& out) {
  want("numbers in sign", sign.size(), gradient.size());
  want("numbers in gain", gain.size(), gradient.size());
  want("columns of inverse", inverse.shape(1), out.size());
  if (inverse.shape(0) == 0) throw nb::value_error("inverse has at least one row");
  tied_gradient({gradient.data(), gradient.size()}, inverse.data(), inverse.shape(0), sign.data(), gain.data(), {out.data(), out.size()});
}

void step_of_ademamix(const Array<float, 1>& parameters, const Numbers& gradient, const Array<float, 1>& mean, const Array<float, 1>& square,
                      const Array<float, 1>& slow, const std::array<double, 10>& factors) {
  want("numbers in gradient", gradient.size(), parameters.size());
  want("numbers in mean", mean.size(), parameters.size());
  want("numbers in square", square.size(), parameters.size());
  want("numbers in slow", slow.size(), parameters.size());
  std::array<float, 10> f{};
  for (size_t i = 0; i < f.size(); ++i) f[i] = static_cast<float>(factors[i]);
  ademamix(parameters.data(), gradient.data(), parameters.size(), mean.data(), square.data(), slow.data(),
           {f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9]});
}

void draw_points(const Array<const double, 1>& cumulated, const Numbers& importance, const Indices& first, const std::vector<Indices>& extents,
                 const std::vector<int64_t>& strides, double offset, const Array<const int64_t, 2>& words, const Array<int64_t, 1>& points,
                 const Array<float, 1>& counts) {
  if (cumulated.size() == 0) throw nb::value_error("there is at least one block");
  want("numbers in importance", importance.size(), cumulated.size());
  want("numbers in first", first.size(), cumulated.size());
  want("strides", strides.size(), extents.size());
  want("rows of words", words.shape(0), (extents.size() + 1) / 2);
  want("columns of words", words.shape(1), points.size());
  want("numbers in counts", counts.size(), points.size());
  std::vector<const int64_t*> along;
  for (const Indices& extent : extents) {
    want("numbers in an extent", extent.size(), cumulated.size());
    along.push_back(extent.data());
  }
  draw({cumulated.size(), cumulated.data(), importance.data(), first.data(), along, strides}, offset, words.data(), points.size(), points.data(),
       counts.data());
}

template <class S>
void bind(nb::module_& m) {
  using nb::arg, nb::none;
  m.def("forward", &forward<S>, arg("inputs").noconvert(), arg("weights").noconvert(), arg("biases").noconvert(), arg("output_bias").noconvert(),
        arg("outputs").noconvert(), arg("threads") = 1, arg("kernel") = none(), "Fills outputs (n, channels) for inputs (n, F).");
  m.def("backward", &backward<S>, arg("inputs").noconvert(), arg("output_gradient").noconvert(), arg("weights").noconvert(),
        arg("biases").noconvert(), arg("output_bias").noconvert(), arg("gradient").noconvert(), arg("input_gradient").noconvert() = none(),
        arg("threads") = 1, arg("kernel") = none(),
        "Fills gradient (weights, biases, output biases) and input_gradient (n, F) for the gradient of the outputs (n, channels).");
  m.def("grid_forward", &grid_forward<S>, arg("points").noconvert(), arg("tables").noconvert(), arg("weights").noconvert(), arg("biases").noconvert(),
        arg("output_bias").noconvert(), arg("outputs").noconvert(), arg("threads") = 1, arg("kernel") = none(),
        "Fills outputs (n, channels) for the grid points of these row-major numbers (n); tables: as in grid_step.");
  m.def(
      "grid_step", &grid_step<S>, arg("points").noconvert(), arg("tables").noconvert(), arg("samples").noconvert(), arg("low"), arg("top"),
      arg("factor"), arg("weights").noconvert(), arg("biases").noconvert(), arg("output_bias").noconvert(), arg("gradient").noconvert(),
      arg("threads") = 1, arg("kernel") = none(), arg("importance").noconvert() = none(),
      "The sum of squared errors against (samples - low) / top at the grid points of these row-major numbers; fills gradient with `factor` times its "
      "gradient. tables: the inputs of each dimension, a row for each of its points. samples: (points of the grid, channels), uint8, int16 or "
      "int32. importance: what the squared errors of each point count in the sum, 1 without it.");
  m.def("waves", &waves<S>, arg("phases").noconvert(), arg("sines").noconvert(), arg("cosines").noconvert(), arg("kernel") = none(),
        "Fills sines and cosines as the step computes them.");
}

std::vector<std::string> kernels() {
  std::vector<std::string> names;
  for (const Kernel<float>* kernel : all_kernels())
    if (kernel->available()) names.emplace_back(kernel->name);
  return names;
}

}  // namespace
}  // namespace doh::train

NB_MODULE(_train, m) {
  m.doc() =
      "The fused training step: outputs, squared error and gradients of a sine network, in float32 with the processor's vectors and in float64 for "
      "checks. doh.train.fused is the interface for people. Arrays are C-contiguous and lie in memory that the CPU sees, all of one type: weights "
      "(D,), layer after layer and each (fan_out, fan_in), biases (depth, width), output_bias (channels,). Results do not depend on `threads`. All "
      "functions raise ValueError for shapes that do not fit. forward, backward, grid_forward, grid_step, nearest_on_trellis and peak release the "
      "GIL.";
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    try {
      std::rethrow_exception(p);
    } catch (const doh::train::BadPoint& e) {
      PyErr_SetString(PyExc_IndexError, e.what());
    }
  });
  doh::train::bind<float>(m);
  doh::train::bind<double>(m);
  using nb::arg;
  m.def("rounded", &doh::train::rounded_values, arg("values").noconvert(), arg("step"), arg("out").noconvert(),
        "Fills out (n,) with values (n,) rounded to multiples of step.");
  m.def("nearest_on_trellis", &doh::train::nearest_latents, arg("values").noconvert(), arg("step"), arg("state"), arg("out").noconvert(),
        "Fills out (n,), int32, with the latents on the trellis, from this state on, that are nearest to values (n,) / step.");
  m.def("tied_weights", &doh::train::weights_of_latents, arg("latents").noconvert(), arg("index").noconvert(), arg("sign").noconvert(),
        arg("gain").noconvert(), arg("out").noconvert(), "Fills out (D,) with sign * latents[index] * gain.");
  m.def("tied_gradient", &doh::train::gradient_of_latents, arg("gradient").noconvert(), arg("inverse").noconvert(), arg("sign").noconvert(),
        arg("gain").noconvert(), arg("out").noconvert(),
        "Fills out (n,) with the gradient of the latents for that of the weights, gradient (D,). inverse: (chunks, n), the weight that each latent "
        "serves, D for none.");
  m.def("ademamix", &doh::train::step_of_ademamix, arg("parameters").noconvert(), arg("gradient").noconvert(), arg("mean").noconvert(),
        arg("square").noconvert(), arg("slow").noconvert(), arg("factors"),
        "A step of the optimiser (doh.train.ademamix.Factors) for parameters (n,), whose means it changes, too.");
  m.def("draw", &doh::train::draw_points, arg("cumulated").noconvert(), arg("importance").noconvert(), arg("first").noconvert(),
        arg("extents").noconvert(), arg("strides"), arg("offset"), arg("words").noconvert(), arg("points").noconvert(), arg("counts").noconvert(),
        "Fills points (batch,), numbers of grid points, and counts (batch,), their importance, from blocks of points (doh.train.importance). words: "
        "(dimensions / 2, batch), random, of 62 bits.");
  m.def("peak", &doh::train::peak, nb::arg("seconds"), nb::arg("threads") = 1, nb::arg("kernel") = nb::none(),
        "float32 multiply-adds a second, at most, as measured in so many seconds.");
  m.def("kernels", &doh::train::kernels, "The names of the kernels for float32 that run on this machine, best first.");
}

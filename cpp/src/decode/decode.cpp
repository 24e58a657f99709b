// The order of events is that of docs/format.md: file, limits, buffers, codes, network, samples, their checksum.
#include "decode/decode.h"

#include <atomic>
#include <bit>

#include "base/crc32c.h"
#include "decode/box.h"
#include "decode/limits.h"
#include "decode/parallel.h"
#include "decode/tiles.h"
#include "format/read.h"
#include "net/kernels.h"

namespace doh {
namespace {

constexpr uint64_t kWeightsAtOnce = 16;  // of the dense generator, between two questions whether to end: at most some ten milliseconds

// The box of a decode, and the bytes of workspace and samples that it takes.
Status plan(const File& file, const doh_options* options, const doh_region* region, Box& box, uint64_t& memory, uint64_t& bytes) {
  const Header& h = file.header;
  box = whole_grid(h);
  if (region != nullptr) DOH_TRY(box_of(h, *region, box));
  memory = workspace_bytes(file.sizes(), threads_of(options));
  DOH_TRY(judge(file, box, memory, limits_of(options)));
  bytes = box.points() * h.channels * h.bytes_per_sample();  // at most 2^41, by the limit
  return DOH_OK;
}

// What all networks of a decode share.
struct Job {
  const File& file;
  const Box& whole;
  const Kernel& kernel;
  uint8_t* samples;  // of the whole box
  Cancel& cancel;
  std::atomic<uint32_t> next = 0;  // the first network that no team has taken
  std::atomic<Status> status = DOH_OK;
};

// Decodes `box`, a part of the job's, with its network.
Status decode_part(const Job& job, const Team& team, std::span<uint8_t> workspace, const Part& part, const Box& box) {
  const Sizes sizes = part.header.sizes();
  DOH_REQUIRE(workspace_bytes(sizes, team.threads) <= workspace.size(), DOH_WORKSPACE_TOO_SMALL);
  Arena arena(workspace);
  const ModelSpace model_space(sizes, arena);
  const auto tile_bytes = static_cast<size_t>(tile_space_bytes(sizes));
  const auto tile_memory = arena.take<uint8_t>(team.threads * uint64_t{tile_bytes});
  Network net;
  DOH_TRY(load_network(part, model_space, job.kernel, team, net));

  const Tiling tiling(box, job.whole);
  const TileJob tiles{net, box, tiling, job.kernel, job.samples, job.cancel};
  const uint32_t count = thread_count(team.threads, tiling.tiles);
  team.share(count, [&](uint32_t t, bool asks) {
    Arena own(tile_memory.subspan(t * tile_bytes, tile_bytes));
    const uint64_t share = tiling.tiles / count, rest = tiling.tiles % count;  // the first `rest` threads take one more
    const uint64_t first = t * share + (t < rest ? t : rest);
    decode_tiles(tiles, TileSpace(sizes, own), first, first + share + (t < rest), asks);
  });
  DOH_REQUIRE(!job.cancel.wanted(false), DOH_CANCELLED);
  return DOH_OK;
}

// Decodes networks that no other team has taken, until there are none or one has failed.
Status decode_parts(Job& job, const Team& team, std::span<uint8_t> workspace) {
  PartReader reader(job.file);
  uint32_t read = 0;
  while (job.status == DOH_OK) {
    const uint32_t part = job.next.fetch_add(1);
    if (part >= job.file.part_count) break;
    Box box;
    if (!box_of_part(job.whole, part, box)) continue;
    for (; read <= part; ++read) DOH_TRY(reader.next());
    DOH_TRY(decode_part(job, team, workspace, reader.part(), box));
  }
  return DOH_OK;
}

}  // namespace

Status load_network(const Part& part, const ModelSpace& space, const Kernel& kernel, const Team& team, Network& net) {
  const Header& h = part.header;
  DOH_REQUIRE(!team.cancel.wanted(team.asks), DOH_CANCELLED);
  DOH_TRY(read_payload(part, space.latents, space.hidden_biases, space.output_biases));
  if (h.generator == DOH_TIED) {
    make_tied_weights(h, space.latents, space.sort, space.weights);
  } else {
    const int64_t sum = prepare_codes(space.latents, kernel.dense_blocks, space.prepared);
    const DenseCodes codes{space.prepared, sum, kernel.dense_sum};
    const uint32_t count = thread_count(team.threads, h.weights());
    team.share(count, [&](uint32_t t, bool asks) {
      const uint64_t end = h.weights() * (t + 1) / count;
      for (uint64_t at = h.weights() * t / count; at < end && !team.cancel.wanted(asks); at += kWeightsAtOnce)
        make_dense_weights(h, codes, at, end - at < kWeightsAtOnce ? end : at + kWeightsAtOnce, space.weights);
    });
    DOH_REQUIRE(!team.cancel.wanted(false), DOH_CANCELLED);
  }
  make_biases(h, space.hidden_biases, space.output_biases, space.biases);
  net = {&part.header, space.weights, space.biases};
  return DOH_OK;
}

Status open_file(std::span<const uint8_t> data, const doh_options* options, File& file) {
  DOH_TRY(read_file(data, file));
  return judge(file, whole_grid(file.header), workspace_bytes(file.sizes(), threads_of(options)), limits_of(options));
}

Status decode_needs(const File& file, const doh_options* options, const doh_region* region, size_t& workspace, uint64_t& samples) {
  Box box;
  uint64_t memory = 0;
  DOH_TRY(plan(file, options, region, box, memory, samples));
  return workspace_size(file.sizes(), file.part_count, options, workspace);
}

uint32_t samples_crc(const Header& h, std::span<const uint8_t> samples) {
  if (std::endian::native == std::endian::little || h.bytes_per_sample() == 1) return crc32c(samples);
  uint32_t crc = 0;
  for (size_t i = 0; i + 1 < samples.size(); i += 2) {
    const uint8_t swapped[2] = {samples[i + 1], samples[i]};
    crc = crc32c(swapped, crc);
  }
  return crc;
}

Status decode(std::span<const uint8_t> data, const doh_options* options, const doh_region* region, std::span<uint8_t> samples,
              std::span<uint8_t> workspace) {
  const Kernel* const kernel = find_kernel(options != nullptr ? options->kernel : nullptr);
  DOH_REQUIRE(kernel != nullptr, DOH_UNKNOWN_KERNEL);

  File file;
  DOH_TRY(read_file(data, file));
  Box box;
  uint64_t memory = 0, bytes = 0;
  DOH_TRY(plan(file, options, region, box, memory, bytes));
  DOH_REQUIRE(bytes <= samples.size(), DOH_BUFFER_TOO_SMALL);
  DOH_REQUIRE(memory <= workspace.size(), DOH_WORKSPACE_TOO_SMALL);

  Cancel cancel(options);
  Job job{file, box, *kernel, samples.data(), cancel};
  const uint32_t threads = threads_of(options), teams = team_count(file.sizes(), threads, parts_of(box), workspace.size());
  auto run = [&](uint32_t t, bool own) {
    const size_t share = workspace.size() / teams;
    const Team team{threads / teams, own, cancel};
    if (const Status status = decode_parts(job, team, workspace.subspan(t * share, share)); status != DOH_OK) job.status = status;
  };
  if (teams == 1)
    run(0, true);  // with the stack of one call of `parallel`
  else
    Team{teams, true, cancel}.share(teams, run);
  DOH_REQUIRE(!cancel.wanted(false), DOH_CANCELLED);
  DOH_TRY(job.status);

  const bool match = region != nullptr || samples_crc(file.header, samples.first(static_cast<size_t>(bytes))) == file.samples_crc;
  DOH_REQUIRE(match || !kChecksumsCount, DOH_BAD_SAMPLES);
  return DOH_OK;
}

}  // namespace doh

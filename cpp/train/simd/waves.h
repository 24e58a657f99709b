// Sine and cosine of float vectors together; included within a target region, after V's own header. Cody and Waite's reduction by quarter turns, then
// polynomials on [-pi/4, pi/4] (those of Moshier's Cephes): at most 1e-7 away from the truth for phases up to V::kFar.

namespace {

template <class V>
struct Waves {
  using Vec = typename V::Vec;

  // Of `vectors` vectors, none beyond V::kFar; `sines` may be `phases`. Numbers that are none stay so.
  static void near(const float* phases, size_t vectors, float* sines, float* cosines) {
    const Vec quarters = V::set(0.636619772f), magic = V::set(12582912.0f);  // 1.5 * 2^23: what is added to it is rounded to a whole number
    for (size_t v = 0; v < vectors; ++v, phases += V::kLanes, sines += V::kLanes, cosines += V::kLanes) {
      const Vec x = V::load(phases);
      const Vec turned = V::multiply_add(x, quarters, magic);
      const Vec r = V::reduce(x, V::subtract(turned, magic)), z = V::multiply(r, r);
      Vec s = V::multiply_add(V::set(-1.9515295891e-4f), z, V::set(8.3321608736e-3f));
      s = V::multiply_add(s, z, V::set(-1.6666654611e-1f));
      s = V::multiply_add(s, V::multiply(z, r), r);
      Vec c = V::multiply_add(V::set(2.443315711809948e-5f), z, V::set(-1.388731625493765e-3f));
      c = V::multiply_add(c, z, V::set(4.166664568298827e-2f));
      c = V::multiply_add(c, z, V::set(-0.5f));
      c = V::multiply_add(c, z, V::set(1.0f));
      V::turn(turned, s, c);
      V::store(sines, s);
      V::store(cosines, c);
    }
  }

  // Of any phases.
  static void any(const float* phases, size_t vectors, float* sines, float* cosines) {
    Vec most = V::set(0);
    for (size_t v = 0; v < vectors; ++v) most = V::larger(most, V::magnitude(V::load(phases + v * V::kLanes)));
    if (V::any_beyond(most, V::kFar)) [[unlikely]]
      return doh::train::slow_waves(phases, vectors * V::kLanes, sines, cosines);
    near(phases, vectors, sines, cosines);
  }
};

}  // namespace

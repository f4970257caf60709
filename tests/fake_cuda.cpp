// Lets a build of torch without CUDA make fake tensors on device "cuda": a device guard and hooks that do nothing, and
// the choice of an attention kernel that a GPU of compute capability 8.0 makes. See fake_cuda.py.
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/native/transformers/attention.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {
using namespace c10;

Stream only_stream() {
  return Stream(Stream::DEFAULT, Device(DeviceType::CUDA, 0));
}

struct Guard final : impl::NoOpDeviceGuardImpl<DeviceType::CUDA> {
  Device exchangeDevice(Device) const override { return only_stream().device(); }
  Device getDevice() const override { return only_stream().device(); }
  Stream getStream(Device) const noexcept override { return only_stream(); }
  Stream getDefaultStream(Device) const override { return only_stream(); }
  Stream exchangeStream(Stream) const noexcept override { return only_stream(); }
  void record(void**, const Stream&, const DeviceIndex, const EventFlag) const override {}
  void block(void*, const Stream&) const override {}
};

struct Hooks final : at::CUDAHooksInterface {
  explicit Hooks(at::CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(DeviceIndex) const override { return true; }
  DeviceIndex getCurrentDevice() const override { return 0; }
  DeviceIndex deviceCount() const override { return 1; }
};

int64_t attention_kernel(const at::Tensor& query, const at::Tensor&, const at::Tensor&,
                         const std::optional<at::Tensor>& mask, double, bool, std::optional<double>, bool) {
  enum { math, flash, efficient };
  return mask || query.scalar_type() == at::kFloat ? efficient : flash;
}

struct Load {
  Load() { at::native::_fused_sdp_choice_stub.set_cuda_dispatch_ptr(&attention_kernel); }
} load;
}  // namespace

namespace c10::impl {
C10_REGISTER_GUARD_IMPL(CUDA, Guard);
}
namespace at {
using CUDAHooks = ::Hooks;  // the name that torch asks for
REGISTER_CUDA_HOOKS(CUDAHooks);
}

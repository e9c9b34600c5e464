// Plays a live TorchScript through the backend of nn~, as Max and Pure Data do: nn_tilde_render model.ts 512 drive=12 < in.f32 > out.f32
// (float32, channels interleaved; 512 is the buffer of nn~; each name=value is set before the sound and read back; `streams=2` is mc.nn~.)
// From a checkout of nn~ (N) and the folder of Python's torch (T):
// g++ -O2 -std=c++20 -I N/src -I T/include -I T/include/torch/csrc/api/include tools/nn_tilde_render.cpp N/src/backend/{backend,parsing_utils}.cpp
//     -L T/lib -Wl,-rpath,T/lib -ltorch -ltorch_cpu -lc10 -o nn_tilde_render
// Name the program in FASTPROAUDIO_NN_TILDE_RENDER, and the tests use it.
#include <cmath>
#include <cstdio>
#include "backend/backend.h"

static void set(Backend& nn, const std::string& word) {
    const auto eq = word.find('=');
    const std::string name = word.substr(0, eq), value = word.substr(eq+1);
    if (eq == std::string::npos || !nn.has_settable_attribute(name)) throw std::runtime_error("no attribute for " + word);
    nn.set_attribute(name, {value}, {});
    std::fprintf(stderr, "%s %s\n", name.c_str(), nn.get_attribute_as_string(name).c_str());
}

// Later versions of nn~ order the arguments otherwise.
template <typename B, typename V> static void perform(B& nn, V& in, V& out, int n, int n_out, int streams) {
    const std::string method = "forward";
    if constexpr (requires { nn.perform(in, out, n, method, streams); }) nn.perform(in, out, n, method, streams);
    else nn.perform(in, out, method, streams, n_out, n);
}

static void play(Backend& nn, int n, int streams) {
    const auto p = nn.get_method_params("forward");
    if (p.size() != 4) throw std::runtime_error("nn~ finds no forward method");
    if (n % nn.get_higher_ratio()) throw std::runtime_error("the buffer is no multiple of " + std::to_string(nn.get_higher_ratio()));
    const int n_in = p[0], n_out = p[2];
    std::vector<std::vector<float>> in(n_in*streams, std::vector<float>(n)), out(n_out*streams, std::vector<float>(n));
    std::vector<float> frames(n*n_in), mixed(n*n_out);
    std::vector<float*> ins, outs;
    for (auto& v : in) ins.push_back(v.data());
    for (auto& v : out) outs.push_back(v.data());
    while (const int got = std::fread(frames.data(), sizeof(float)*n_in, n, stdin)) {
        std::fill(frames.begin()+got*n_in, frames.end(), 0.f);
        for (int c = 0; c < n_in; ++c) for (int s = 0; s < streams; ++s) for (int i = 0; i < n; ++i) in[c*streams+s][i] = frames[i*n_in+c]/(s+1);
        for (auto& v : out) std::fill(v.begin(), v.end(), NAN);                    // what nn~ leaves untouched shows
        perform(nn, ins, outs, n, n_out, streams);
        for (int c = 0; c < n_out; ++c) for (int i = 0; i < n; ++i) mixed[i*n_out+c] = out[c][i];        // the first stream; the others are quieter
        std::fwrite(mixed.data(), sizeof(float)*n_out, got, stdout);
    }
}

int main(int argc, char** argv) try {
    if (argc < 3) throw std::runtime_error("usage: nn_tilde_render model.ts buffer [streams=n] [name=value ...] < in.f32 > out.f32");
    at::set_num_threads(1);
    Backend nn;
    const std::string method = "forward";
    if (nn.load(argv[1], 48000, &method)) throw std::runtime_error("nn~ cannot load the file");
    for (const auto& m : nn.get_model_info().method_properties)
        std::fprintf(stderr, "%s %d %d %d %d\n", m.first.c_str(), m.second.channels_in, m.second.ratio_in, m.second.channels_out, m.second.ratio_out);
    int streams = 1;
    for (int i = 3; i < argc; ++i) {
        const std::string word = argv[i];
        if (word.rfind("streams=", 0) == 0) streams = std::stoi(word.substr(8));
        else set(nn, word);
    }
    play(nn, std::stoi(argv[2]), streams);
    std::fflush(stdout);
    return 0;
} catch (const std::exception& e) { std::fprintf(stderr, "%s\n", e.what()); return 1; }
  catch (const std::string& e) { std::fprintf(stderr, "%s\n", e.c_str()); return 1; }
  catch (const char* e) { std::fprintf(stderr, "%s\n", e); return 1; }

// Plays an RTNeural or GuitarML JSON file as its hosts do: rtneural_render model.json < in.f32 > out.f32 (mono float32, from zeros).
// g++ -O2 -std=c++17 -DRTNEURAL_USE_STL=1 -DRTNEURAL_NAMESPACE=RTNeural -DRTNEURAL_DEFAULT_ALIGNMENT=16 -I RTNeural tools/rtneural_render.cpp -o rtneural_render
// RTNeural files are loaded by RTNeural's own loader; the dry sound is added where in_skip says so, as AIDA-X does.
// GuitarML files are read as NeuralPi (hidden size 20) and Proteus (40) read them: one layer, the dry sound always added.
// Name the program in FASTPROAUDIO_RTNEURAL_RENDER, and the tests use it.
#include <cstdio>
#include <memory>
#include "RTNeural/RTNeural.h"

using Rows = std::vector<std::vector<float>>;
static Rows turned(const Rows& x) {
    Rows y(x.at(0).size(), std::vector<float>(x.size()));
    for (size_t i = 0; i < x.size(); ++i) for (size_t j = 0; j < x[i].size(); ++j) y[j][i] = x[i][j];
    return y;
}

template <typename Model> static void play(Model& model, bool dry) {
    model.reset();
    float x;
    while (std::fread(&x, sizeof x, 1, stdin) == 1) {
        float in[1] = {x}, y = model.forward(in);
        if (dry) y += x;
        std::fwrite(&y, sizeof y, 1, stdout);
    }
}

template <int hidden> static void guitarml(const nlohmann::json& j) {
    auto m = std::make_unique<RTNeural::ModelT<float, 1, 1, RTNeural::LSTMLayerT<float, 1, hidden>, RTNeural::DenseT<float, hidden, 1>>>();
    const auto& s = j.at("state_dict");
    std::vector<float> b = s.at("rec.bias_hh_l0"), more = s.at("rec.bias_ih_l0"), out = s.at("lin.bias");
    for (size_t i = 0; i < b.size(); ++i) b[i] += more.at(i);
    auto& lstm = m->template get<0>();
    lstm.setWVals(turned(s.at("rec.weight_ih_l0").get<Rows>()));
    lstm.setUVals(turned(s.at("rec.weight_hh_l0").get<Rows>()));
    lstm.setBVals(b);
    m->template get<1>().setWeights(s.at("lin.weight").get<Rows>());
    m->template get<1>().setBias(out.data());
    play(*m, true);
}

int main(int argc, char** argv) try {
    if (argc != 2) throw std::runtime_error("usage: rtneural_render model.json < in.f32 > out.f32");
    nlohmann::json j;
    std::ifstream(argv[1]) >> j;
    if (!j.contains("state_dict")) {
        auto m = RTNeural::json_parser::parseJson<float>(j);
        if (!m) throw std::runtime_error("RTNeural refuses the file");
        play(*m, j.value("in_skip", 0) == 1);
        return 0;
    }
    const int hidden = j.at("model_data").at("hidden_size");
    if (hidden == 20) guitarml<20>(j);
    else if (hidden == 40) guitarml<40>(j);
    else throw std::runtime_error("NeuralPi plays 20 units and Proteus 40, the file has " + std::to_string(hidden));
} catch (const std::exception& e) { std::fprintf(stderr, "%s\n", e.what()); return 1; }

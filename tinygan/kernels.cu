// The GPU's own kernels, in plain CUDA C: what no library call does in one go. gpu.py launches them and says what they compute.
//
// `real` is float or double; the file is compiled once for each (-DREAL=float). A kernel is the body of a loop: thread k computes
// element k of the result and writes nowhere else. So nothing is added atomically, and the same input gives the same bits every time.
// No shared memory and no synchronisation: the same source runs on a CPU, one element after the other, and is tested there.

typedef REAL real;

#define ELEMENT(k, size) int k = blockIdx.x * blockDim.x + threadIdx.x; if (k >= size) return

// Which element of images (N, height, width, c) number k is.
#define PLACE(k, n, row, height, column, width, channel, c) \
    int channel = k % c, column = k / c % width, row = k / c / width % height, n = k / c / width / height


// Windows of images: columns[n, i, j, u, v, c] = x[n, i s + u d - p, j s + v d - p, c], and 0 outside of the image.
extern "C" __global__ void im2col(
    const real* __restrict__ x, real* __restrict__ columns, int size, int h, int w, int c, int ho, int wo, int kh, int kw,
    int sh, int sw, int ph, int pw, int dh, int dw)
{
    ELEMENT(k, size);
    int rest = k;
    int channel = rest % c;  rest /= c;
    int v = rest % kw;       rest /= kw;
    int u = rest % kh;       rest /= kh;
    int j = rest % wo;       rest /= wo;
    int i = rest % ho;       int n = rest / ho;
    int row = i * sh + u * dh - ph, column = j * sw + v * dw - pw;
    bool inside = 0 <= row && row < h && 0 <= column && column < w;
    columns[k] = inside ? x[((n * h + row) * w + column) * c + channel] : (real)0;
}


// The adjoint of im2col: every pixel of the image x collects its value from all windows that it is part of.
extern "C" __global__ void col2im(
    const real* __restrict__ columns, real* __restrict__ x, int size, int h, int w, int c, int ho, int wo, int kh, int kw,
    int sh, int sw, int ph, int pw, int dh, int dw)
{
    ELEMENT(k, size);
    PLACE(k, n, row, h, column, w, channel, c);
    real sum = 0;
    for (int u = 0; u < kh; u++) {
        int top = row + ph - u * dh;                // = i s, if tap u of window row i lies on this pixel
        if (top < 0 || top % sh || top / sh >= ho) continue;
        for (int v = 0; v < kw; v++) {
            int left = column + pw - v * dw;
            if (left < 0 || left % sw || left / sw >= wo) continue;
            sum += columns[((((n * ho + top / sh) * wo + left / sw) * kh + u) * kw + v) * c + channel];
        }
    }
    x[k] = sum;
}


// The maximum of every window: y[n, i, j, c] = max x[n, i s + u - p, j s + v - p, c] over all u, v that lie in the image. NaN wins.
extern "C" __global__ void max_pool(
    const real* __restrict__ x, real* __restrict__ y, int size, int h, int w, int c, int ho, int wo, int kh, int kw,
    int sh, int sw, int ph, int pw)
{
    ELEMENT(k, size);
    PLACE(k, n, i, ho, j, wo, channel, c);
    bool first = true;
    real most = 0;
    for (int row = max(i * sh - ph, 0); row < min(i * sh - ph + kh, h); row++) {
        for (int column = max(j * sw - pw, 0); column < min(j * sw - pw + kw, w); column++) {
            real value = x[((n * h + row) * w + column) * c + channel];
            if (first || value > most || value != value) most = value;
            first = false;
        }
    }
    y[k] = most;
}


// Its gradient: a pixel that equals its window's maximum y collects g / (how many pixels of the window equal it). NaN is passed on.
extern "C" __global__ void max_pool_input(
    const real* __restrict__ g, const real* __restrict__ x, const real* __restrict__ y, real* __restrict__ gradient, int size,
    int h, int w, int c, int ho, int wo, int kh, int kw, int sh, int sw, int ph, int pw)
{
    ELEMENT(k, size);
    PLACE(k, n, row, h, column, w, channel, c);
    real sum = 0;
    for (int i = max(row + ph - kh + sh, 0) / sh; i < min((row + ph) / sh + 1, ho); i++) {          // the windows with this pixel
        for (int j = max(column + pw - kw + sw, 0) / sw; j < min((column + pw) / sw + 1, wo); j++) {
            int window = ((n * ho + i) * wo + j) * c + channel;
            if (y[window] != y[window]) sum = y[window];
            if (x[k] != y[window]) continue;
            int ties = 0;
            for (int u = max(i * sh - ph, 0); u < min(i * sh - ph + kh, h); u++)
                for (int v = max(j * sw - pw, 0); v < min(j * sw - pw + kw, w); v++)
                    ties += x[((n * h + u) * w + v) * c + channel] == y[window];
            sum += g[window] / ties;
        }
    }
    gradient[k] = sum;
}


// y[p] = sum of values[order[k]] over all k with places[k] = p. Places are sorted: the first of equal ones adds them all up, in order.
extern "C" __global__ void add_at(
    const real* __restrict__ values, const long long* __restrict__ places, const long long* __restrict__ order,
    real* __restrict__ y, int size)
{
    ELEMENT(k, size);
    long long place = places[k];
    if (k > 0 && places[k - 1] == place) return;
    real sum = 0;
    for (int j = k; j < size && places[j] == place; j++) sum += values[order[j]];
    y[place] = sum;
}


// y = x where x > 0, else slope x.
extern "C" __global__ void leaky_relu(const real* __restrict__ x, real* __restrict__ y, int size, real slope)
{
    ELEMENT(k, size);
    y[k] = x[k] > 0 ? x[k] : slope * x[k];
}


// Its gradient: g where x > 0, else slope g.
extern "C" __global__ void leaky_relu_input(
    const real* __restrict__ g, const real* __restrict__ x, real* __restrict__ gradient, int size, real slope)
{
    ELEMENT(k, size);
    gradient[k] = x[k] > 0 ? g[k] : slope * g[k];
}


// The gradient of softplus: g / (1 + e^-x). Element k of g is g[k step], so that one number can stand for all (step 0).
extern "C" __global__ void softplus_input(
    const real* __restrict__ g, const real* __restrict__ x, real* __restrict__ gradient, int size, int step)
{
    ELEMENT(k, size);
    real e = exp(x[k] < 0 ? x[k] : -x[k]);          // never overflows
    gradient[k] = g[k * step] * (x[k] < 0 ? e : 1) / (1 + e);
}


// Batch normalisation, per channel: r = 1 / deviation, and slope = r scale.
extern "C" __global__ void channels(
    const real* __restrict__ scale, const real* __restrict__ variance, real* __restrict__ r, real* __restrict__ slope, int size, real eps)
{
    ELEMENT(k, size);
    r[k] = 1 / sqrt(variance[k] + eps);
    slope[k] = r[k] * scale[k];
}


// y = d slope + shift, two numbers per channel.
extern "C" __global__ void scaled(
    const real* __restrict__ d, const real* __restrict__ slope, const real* __restrict__ shift, real* __restrict__ y, int size, int c)
{
    ELEMENT(k, size);
    y[k] = d[k] * slope[k % c] + shift[k % c];
}


// g (x - mean), one mean per channel.
extern "C" __global__ void centred_product(
    const real* __restrict__ g, const real* __restrict__ x, const real* __restrict__ mean, real* __restrict__ y, int size, int c)
{
    ELEMENT(k, size);
    y[k] = g[k] * (x[k] - mean[k % c]);
}


// The gradient of batch normalisation: r scale (g - mean of g - (x - mean) r r mean of g (x - mean)), from sums over n numbers.
extern "C" __global__ void normalize_input(
    const real* __restrict__ g, const real* __restrict__ x, const real* __restrict__ mean, const real* __restrict__ r,
    const real* __restrict__ scale, const real* __restrict__ sum_g, const real* __restrict__ sum_gd, real* __restrict__ gradient,
    int size, int c, int n)
{
    ELEMENT(k, size);
    int i = k % c;
    gradient[k] = r[i] * scale[i] * (g[k] - sum_g[i] / n - (x[k] - mean[i]) * r[i] * r[i] * (sum_gd[i] / n));
}


// One step of Adam, see optim.py: m and v are sums, and rate and eps have their counts in them. One launch moves eight parameters;
// thread k of all has element k of theta0, or after that k - size0 of theta1, and so on.
#define PARAMETER(i) \
    if (k < size##i) { \
        m##i[k] = beta1 * m##i[k] + g##i[k]; \
        v##i[k] = beta2 * v##i[k] + g##i[k] * g##i[k]; \
        theta##i[k] -= rate * m##i[k] / (sqrt(v##i[k]) + eps); \
        return; \
    } \
    k -= size##i

extern "C" __global__ void adam(
    real* __restrict__ theta0, const real* __restrict__ g0, real* __restrict__ m0, real* __restrict__ v0, int size0,
    real* __restrict__ theta1, const real* __restrict__ g1, real* __restrict__ m1, real* __restrict__ v1, int size1,
    real* __restrict__ theta2, const real* __restrict__ g2, real* __restrict__ m2, real* __restrict__ v2, int size2,
    real* __restrict__ theta3, const real* __restrict__ g3, real* __restrict__ m3, real* __restrict__ v3, int size3,
    real* __restrict__ theta4, const real* __restrict__ g4, real* __restrict__ m4, real* __restrict__ v4, int size4,
    real* __restrict__ theta5, const real* __restrict__ g5, real* __restrict__ m5, real* __restrict__ v5, int size5,
    real* __restrict__ theta6, const real* __restrict__ g6, real* __restrict__ m6, real* __restrict__ v6, int size6,
    real* __restrict__ theta7, const real* __restrict__ g7, real* __restrict__ m7, real* __restrict__ v7, int size7,
    int size, real beta1, real beta2, real rate, real eps)
{
    ELEMENT(k, size);
    PARAMETER(0);
    PARAMETER(1);
    PARAMETER(2);
    PARAMETER(3);
    PARAMETER(4);
    PARAMETER(5);
    PARAMETER(6);
    PARAMETER(7);
}

/* Streams, events and graphs. */
#include "driver.h"
#include <algorithm>
#undef cuEventElapsedTime

static thread_local CUstream capturing_here = nullptr;

bool forbidden_by_capture()
{
    if (capturing_here) {
        capturing_here->spoiled = true;
    }
    return capturing_here;
}

CUresult refusal_of(CUstream stream)
{
    if (std::find(driver.streams.begin(), driver.streams.end(), stream) == driver.streams.end()) {
        problem("a stream that does not exist is used");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    return stream->spoiled ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}

static CUresult lost_or_done()
{
    return driver.lost ? CUDA_ERROR_ILLEGAL_ADDRESS : CUDA_SUCCESS;
}

EXPORT CUresult cuStreamCreate(CUstream *stream, unsigned)
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__)) {
        return refused;
    }
    *stream = new CUstream_st;
    (*stream)->number = driver.streams_made++;
    driver.streams.push_back(*stream);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamDestroy(CUstream stream)
{
    Locked locked;
    if (CUresult refused = refusal_in_context("cuStreamDestroy")) {
        return refused;
    }
    if (CUresult refused = refusal_of(stream)) {
        return refused;
    }
    run_all(stream);
    driver.streams.erase(std::find(driver.streams.begin(), driver.streams.end(), stream));
    delete stream;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamSynchronize(CUstream stream)
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__, true)) {
        return refused;
    }
    if (CUresult refused = refusal_of(stream)) {
        return refused;
    }
    run_all(stream);
    return lost_or_done();
}

EXPORT CUresult cuStreamQuery(CUstream stream)
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__)) {
        return refused;
    }
    if (CUresult refused = refusal_of(stream)) {
        return refused;
    }
    return stream->queue.empty() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

EXPORT CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned)
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__)) {
        return refused;
    }
    if (CUresult refused = refusal_of(stream)) {
        return refused;
    }
    if (!driver.events.count(event)) {
        problem("a stream waits for an event that does not exist");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (event->mark) {
        put(stream, {"wait", nullptr, event->mark, nullptr, {}});
    }
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventCreate(CUevent *event, unsigned)
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__)) {
        return refused;
    }
    *event = new CUevent_st;
    driver.events.insert(*event);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventDestroy(CUevent event)
{
    Locked locked;
    if (CUresult refused = refusal_in_context("cuEventDestroy")) {
        return refused;
    }
    if (!driver.events.erase(event)) {
        problem("an event that does not exist is destroyed");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    delete event;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventRecord(CUevent event, CUstream stream)
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__)) {
        return refused;
    }
    if (CUresult refused = refusal_of(stream)) {
        return refused;
    }
    event->mark = std::make_shared<Mark>();
    event->in_capture = stream->capturing;
    put(stream, {"record", nullptr, nullptr, event->mark, {}});
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventSynchronize(CUevent event)
{
    Locked locked;
    if (CUresult refused = refusal(__func__)) {
        return refused;
    }
    if (!driver.events.count(event)) {
        problem("a wait for an event that does not exist");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (event->in_capture) {
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    if (event->mark) {
        run_until(event->mark);
    }
    return lost_or_done();
}

EXPORT CUresult cuEventQuery(CUevent event)
{
    Locked locked;
    if (CUresult refused = refusal(__func__)) {
        return refused;
    }
    return !event->mark || event->mark->happened ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

static CUresult elapsed(float *milliseconds, CUevent start, CUevent end)
{
    Locked locked;
    if (CUresult refused = refusal("cuEventElapsedTime")) {
        return refused;
    }
    if (!driver.events.count(start) || !driver.events.count(end) || !start->mark || !end->mark) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    if (!start->mark->happened || !end->mark->happened) {
        return CUDA_ERROR_NOT_READY;
    }
    *milliseconds = (float)((end->mark->at_s - start->mark->at_s) * 1e3);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end)
{
    return elapsed(milliseconds, start, end);
}

EXPORT CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent start, CUevent end)
{
    return elapsed(milliseconds, start, end);
}

EXPORT CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode)
{
    Locked locked;
    if (CUresult refused = refusal_in_context("cuStreamBeginCapture")) {
        return refused;
    }
    if (CUresult refused = refusal_of(stream)) {
        return refused;
    }
    stream->capturing = true;
    stream->captured.clear();
    capturing_here = stream;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    Locked locked;
    bool was_capturing = stream->capturing, was_spoiled = stream->spoiled;
    stream->capturing = stream->spoiled = false;
    capturing_here = nullptr;
    *graph = nullptr;
    if (CUresult refused = refusal(__func__)) {
        return refused;
    }
    if (!was_capturing) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (was_spoiled) {
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    *graph = new CUgraph_st{stream->captured};
    return CUDA_SUCCESS;
}

EXPORT CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status)
{
    *status = stream->capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph graph, unsigned long long)
{
    Locked locked;
    if (CUresult refused = refusal(__func__)) {
        return refused;
    }
    *executable = new CUgraphExec_st{graph->work};
    driver.graphs.insert(*executable);
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphDestroy(CUgraph graph)
{
    delete graph;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphExecDestroy(CUgraphExec executable)
{
    Locked locked;
    if (!driver.graphs.erase(executable)) {
        problem("a graph that does not exist is destroyed");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    delete executable;
    return CUDA_SUCCESS;
}

EXPORT CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream)
{
    Locked locked;
    if (CUresult refused = refusal_in_context(__func__)) {
        return refused;
    }
    if (CUresult refused = refusal_of(stream)) {
        return refused;
    }
    if (!driver.graphs.count(executable)) {
        problem("a graph that does not exist is launched");
        return CUDA_ERROR_INVALID_HANDLE;
    }
    for (const Work &work : executable->work) {
        put(stream, work);
    }
    return CUDA_SUCCESS;
}

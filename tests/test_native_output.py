import os
import sys
import threading

from tumorflow.native_output import STDERR, STDOUT, captured_output


def test_what_native_code_prints_is_captured_and_given_back(capfd):
    with captured_output(STDOUT, STDERR) as log:
        os.write(1, b"from C to stdout\n")
        os.write(2, b"from C to stderr\n")
        assert log.read_text() == "from C to stdout\nfrom C to stderr\n"
    print("heard")
    assert capfd.readouterr().out == "heard\n"


def test_the_other_stream_is_left_alone(capfd):
    with captured_output(STDERR) as log:
        print("heard", flush=True)
        os.write(2, b"captured")
        assert log.read_text() == "captured"
    assert capfd.readouterr() == ("heard\n", "")


def test_a_full_disk_does_not_keep_the_streams(monkeypatch, capfd):
    before = os.fstat(STDERR).st_ino

    def open_full(*_, **__):
        return open("/dev/full", "w")  # noqa: PTH123 - stands for a temporary file

    monkeypatch.setattr("tempfile.NamedTemporaryFile", open_full)
    with captured_output(STDERR):
        print("lost", file=sys.stderr)
    assert os.fstat(STDERR).st_ino == before
    assert capfd.readouterr() == ("", "")


def test_threads_that_capture_at_once_leave_the_streams_as_they_were(capfd):
    before = [os.fstat(number).st_ino for number in (STDOUT, STDERR)]
    everybody = threading.Barrier(8)

    def capture():
        everybody.wait()
        for _ in range(50):
            with captured_output(STDOUT, STDERR):
                os.write(2, b"noise")

    threads = [threading.Thread(target=capture) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [os.fstat(number).st_ino for number in (STDOUT, STDERR)] == before
    assert capfd.readouterr() == ("", "")

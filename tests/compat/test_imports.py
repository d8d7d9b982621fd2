"""What a user's file may import while it is loaded, and what is left behind."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

import psvit
from psvit.compat import StandInGap, import_file, legacy_imports
from psvit.errors import ModelError
from tests.compat.conftest import Write

SPIKFORMER_HEAD = """
    import torch
    from torch import nn
    from spikingjelly.clock_driven.neuron import MultiStepLIFNode, MultiStepParametricLIFNode
    from spikingjelly.clock_driven import functional, layer, surrogate
    from timm.models.layers import to_2tuple, trunc_normal_, DropPath
    from timm.models.registry import register_model
    from timm.models.vision_transformer import _cfg
"""


def load(root: Path, file: str = "model.py") -> ModuleType:
    with legacy_imports((root / file).parent):
        return import_file(root / file)


def absent(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is None
    except ModuleNotFoundError:
        return True


needs_absent_timm = pytest.mark.skipif(not absent("timm"), reason="timm is installed here")
needs_absent_torchvision = pytest.mark.skipif(
    not absent("torchvision"), reason="torchvision is installed here"
)


@needs_absent_timm
def test_an_old_model_file_loads_runs_and_is_pruned(repository: Write) -> None:
    root = repository(
        "spikformer",
        {
            "model.py": SPIKFORMER_HEAD
            + """
    class Net(nn.Module):
        def __init__(self, dim=8, num_classes=3, T=2, drop_path=0.1):
            super().__init__()
            self.T = T
            self.conv = nn.Conv2d(3, dim, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(dim)
            self.lif = MultiStepLIFNode(tau=2.0, detach_reset=True, backend='cupy')
            self.drop = DropPath(drop_path)
            self.mix = nn.Conv2d(dim, dim, to_2tuple(1), bias=False)
            self.head = nn.Linear(dim, num_classes)
            trunc_normal_(self.head.weight, std=.02)

        def forward(self, x):
            x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
            T, B, C, H, W = x.shape
            x = self.bn(self.conv(x.flatten(0, 1))).reshape(T, B, -1, H, W)
            x = self.lif(x)
            x = x + self.drop(self.mix(x.flatten(0, 1)).reshape(T, B, -1, H, W))
            return self.head(x.flatten(3).mean(3)).mean(0)

    @register_model
    def net(pretrained=False, **kwargs):
        model = Net(**kwargs)
        model.default_cfg = _cfg()
        return model
"""
        },
    )
    with legacy_imports(root) as standins:
        model = import_file(root / "model.py").net(dim=16)
    images = torch.rand(2, 3, 6, 6)
    assert model(images).shape == (2, 3)
    assert model.default_cfg["num_classes"] == 1000
    model.lif.reset()
    result = psvit.prune(model, images, save={"params": 0.3})
    assert result.model(images).shape == (2, 3)
    assert standins.lines() == (
        "spikingjelly.clock_driven.functional, spikingjelly.clock_driven.layer, "
        "spikingjelly.clock_driven.neuron, spikingjelly.clock_driven.surrogate: "
        "served by the installed SpikingJelly 2",
        "timm.models.layers, timm.models.registry, timm.models.vision_transformer: "
        "timm is not installed, psvit stands in",
    )


@needs_absent_timm
def test_nothing_is_left_behind(repository: Write) -> None:
    root = repository(
        "tidy", {"model.py": SPIKFORMER_HEAD + "    import helper\n", "helper.py": "x = 1"}
    )
    path, finders, hook = list(sys.path), list(sys.meta_path), torch.Tensor.cuda
    known = set(sys.modules)
    load(root)
    new = {name.partition(".")[0] for name in set(sys.modules) - known}
    assert {n for n in new if not n.startswith("psvit")} <= {"spikingjelly"}
    assert sys.path == path
    assert sys.meta_path == finders
    assert torch.Tensor.cuda is hook
    assert not list(root.rglob("__pycache__"))
    with pytest.raises(ModuleNotFoundError):
        import timm  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        import spikingjelly.clock_driven.neuron  # noqa: F401


def test_an_error_leaves_nothing_behind_either(repository: Write) -> None:
    root = repository("broken", {"model.py": "import helper\n1 / 0", "helper.py": ""})
    path, finders = list(sys.path), list(sys.meta_path)
    with pytest.raises(ZeroDivisionError):
        load(root)
    assert (sys.path, sys.meta_path) == (path, finders)
    assert "helper" not in sys.modules
    assert "model" not in sys.modules


def test_modules_of_the_same_name_do_not_meet(repository: Write) -> None:
    text = "from module import Block\nfrom utils import WIDTH\n"
    one = repository("one", {"model.py": text, "module/__init__.py": "class Block: n = 1",
                             "utils.py": "WIDTH = 1"})  # fmt: skip
    two = repository("two", {"model.py": text, "module/__init__.py": "class Block: n = 2",
                             "utils.py": "WIDTH = 2"})  # fmt: skip
    first, second = load(one), load(two)
    assert (first.Block.n, first.WIDTH) == (1, 1)
    assert (second.Block.n, second.WIDTH) == (2, 2)
    assert first.Block.__module__ != second.Block.__module__


def test_an_installed_module_of_the_same_name_comes_back(repository: Write) -> None:
    aside = ModuleType("module")
    sys.modules["module"] = aside
    try:
        root = repository("shadow", {"model.py": "import module\nx = module.x",
                                     "module.py": "x = 5"})  # fmt: skip
        assert load(root).x == 5
        assert sys.modules["module"] is aside
    finally:
        del sys.modules["module"]


def test_loaded_classes_can_be_found_by_name_later(repository: Write) -> None:
    root = repository("later", {"model.py": "from part import Part", "part.py": "class Part: pass"})
    module = load(root)
    part = module.Part()
    assert type(pickle.loads(pickle.dumps(part))) is module.Part
    assert importlib.import_module(module.Part.__module__).Part is module.Part
    assert importlib.import_module(module.__name__) is module


def test_a_name_that_a_real_stand_in_lacks_is_a_clear_error(repository: Write) -> None:
    root = repository("gap", {"model.py": "from spikingjelly.clock_driven.neuron import QLIFNode"})
    with pytest.raises(
        ModelError, match=r"clock_driven\.neuron\.QLIFNode is missing.*LIFNode"
    ) as e:
        load(root)
    assert "install the spikingjelly release" in str(e.value)
    assert "\n" not in str(e.value)


@needs_absent_timm
def test_a_fallback_for_a_missing_name_is_taken(repository: Write) -> None:
    root = repository(
        "fallback",
        {
            "model.py": """
            try:
                from timm.models.layers import SpaceToDepth as Squeeze
            except ImportError:
                Squeeze = None
            """
        },
    )
    assert load(root).Squeeze is None
    assert issubclass(StandInGap, ModelError)


@pytest.mark.parametrize("package", ["apex", "cupy", "surely_not_installed_anywhere"])
def test_optional_packages_stay_absent(repository: Write, package: str) -> None:
    if not absent(package):
        pytest.skip(f"{package} is installed here")
    text = f"try:\n    import {package}\n    found = True\nexcept ImportError:\n    found = False\n"
    assert load(repository("optional", {"model.py": text})).found is False


@pytest.mark.parametrize(
    ("package", "command"),
    [("surely_not_there.part", "pip install surely_not_there"), ("yaml", "pip install pyyaml")],
)
def test_an_unknown_import_is_named_with_its_cure(
    repository: Write, package: str, command: str
) -> None:
    if not absent(package.partition(".")[0]):
        pytest.skip(f"{package} is installed here")
    root = repository("unknown", {"model.py": f"import {package}"})
    name = package.partition(".")[0]
    with pytest.raises(ModelError, match=f"imports {name}, which is neither.*{command}"):
        load(root)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import torch.surely_gone", "but the installed torch has no surely_gone: install the"),
        ("import parts.surely_gone", "but its own parts has no surely_gone: is the clone complete"),
    ],
)
def test_a_missing_part_is_told_from_a_missing_package(
    repository: Write, code: str, said: str
) -> None:
    root = repository("part", {"model.py": code, "parts/__init__.py": ""})
    with pytest.raises(ModelError, match=f"imports [a-z.]*surely_gone, {said}"):
        load(root)


def test_data_code_loads_but_does_not_run(repository: Write) -> None:
    if not absent("cv2"):
        pytest.skip("opencv is installed here")
    root = repository("data", {"model.py": "import cv2\ndef read():\n    return cv2.imread('x')"})
    module = load(root)
    with pytest.raises(ModelError, match=r"cv2\.imread is used .*: pip install opencv-python"):
        module.read()


def test_the_version_of_what_is_not_there_is_asked_for(repository: Write) -> None:
    if not absent("mmcv"):
        pytest.skip("mmcv is installed here")
    text = "import mmcv\nassert getattr(mmcv, '__version__', None) is None\nmmcv.__version__"
    with pytest.raises(
        ModelError, match=r"asks for mmcv\.__version__ and mmcv is not installed: pip"
    ):
        load(repository("versions", {"model.py": text}))


def test_cuda_kernels_that_went_are_stood_in_for(repository: Write) -> None:
    text = "from spikingjelly.activation_based.auto_cuda import cfunction\nX = cfunction.sigmoid"
    root = repository("kernels", {"model.py": text})
    with legacy_imports(root) as standins:
        import_file(root / "model.py")
    assert any("has no activation_based.auto_cuda" in line for line in standins.lines())


@needs_absent_torchvision
def test_spikingjelly_may_import_torchvision_for_a_user(repository: Write) -> None:
    text = "from spikingjelly.activation_based.model import sew_resnet\nX = sew_resnet.SEWResNet"
    root = repository("networks", {"model.py": text})
    with legacy_imports(root) as standins:
        import_file(root / "model.py")
    assert any("torchvision is not installed" in line for line in standins.lines())


@needs_absent_torchvision
def test_training_code_loads_but_does_not_run(repository: Write) -> None:
    root = repository(
        "training",
        {
            "model.py": """
            import torchvision
            from torchvision import transforms, datasets
            from torchvision.transforms import InterpolationMode
            from timm.data import IMAGENET_DEFAULT_MEAN, create_transform

            augment = transforms.Compose([transforms.ToTensor()])
            bicubic = InterpolationMode.BICUBIC

            class Mine(datasets.ImageFolder):
                def shrink(self, how=transforms.Resize(28)):
                    pass

            def later():
                return transforms.Normalize(0.5, 0.5)
            """
        },
    )
    module = load(root)
    for use in (module.later, module.Mine, module.augment, module.create_transform):
        with pytest.raises(ModelError, match=r"is used by the model and .* is not installed: pip"):
            use()


def test_plotting_does_nothing(repository: Write) -> None:
    if not absent("seaborn"):
        pytest.skip("seaborn is installed here")
    text = "import seaborn as sns\nsns.set(style='ticks')\nfig = sns.color_palette()[0:1]"
    with pytest.raises(TypeError):  # inert, not a list
        load(repository("plots", {"model.py": text}))
    text = "import seaborn as sns\nsns.set(style='ticks')\nfig = sns.FacetGrid(1).map(2)"
    assert "inert" in repr(load(repository("plots2", {"model.py": text})).fig)


def test_installed_libraries_go_on_finding_packages_absent() -> None:
    if not absent("torchinfo"):
        pytest.skip("torchinfo is installed here")
    with legacy_imports():
        assert importlib.util.find_spec("torchinfo") is not None  # asked by this file
        probe: dict[str, object] = {}
        installed = nn.Module.__init__.__code__.co_filename
        exec(
            compile(
                "import importlib.util\nspec = importlib.util.find_spec('torchinfo')",
                installed,
                "exec",
            ),
            probe,
        )
        assert probe["spec"] is None


def test_backend_is_accepted_in_activation_based(repository: Write) -> None:
    root = repository(
        "resformer",
        {
            "model.py": """
            from spikingjelly.activation_based import functional, neuron, surrogate
            from spikingjelly.activation_based.neuron import ParametricLIFNode

            class LIF(neuron.LIFNode):
                def __init__(self):
                    super().__init__(tau=2., surrogate_function=surrogate.ATan(),
                                     detach_reset=True, step_mode='m', backend='cupy',
                                     store_v_seq=False)

            def make():
                functional.set_backend(LIF(), 'cupy')
                return LIF(), ParametricLIFNode(init_tau=2., backend='torch')
            """
        },
    )
    from spikingjelly.activation_based import neuron

    real = neuron.LIFNode
    with legacy_imports(root) as standins:
        lif, plif = import_file(root / "model.py").make()
    assert isinstance(lif, real)
    assert isinstance(plif, neuron.ParametricLIFNode)
    x = torch.tensor([[1.0], [1.5], [0.5]])
    assert torch.equal(lif(x), real(tau=2.0, step_mode="m")(x))
    assert neuron.LIFNode is real
    assert sys.modules["spikingjelly.activation_based.neuron"] is neuron
    assert standins.lines() == (
        "spikingjelly.activation_based.functional: set_backend() is accepted and ignored",
        "spikingjelly.activation_based.neuron: backend= is accepted and ignored",
    )


OWN_NEURONS = """
    import torch
    from spikingjelly.activation_based import neuron
    from spikingjelly.activation_based.neuron import base, surrogate

    class Doubling(neuron.BaseNode):
        def __init__(self, **kwargs):
            super().__init__(surrogate_function=surrogate.ATan(), backend='torch', **kwargs)

        def neuronal_charge(self, x):
            self.v = 2 * self.v + x

    class Eager(neuron.LIFNode):
        def neuronal_fire(self):
            return (self.v >= 0.25).to(self.v)

    class Unheard(neuron.QIFNode):
        def neuronal_charge(self, x):
            self.v = self.v + x
"""


def test_neurons_of_ones_own_are_obeyed(repository: Write) -> None:
    root = repository("neurons", {"model.py": OWN_NEURONS})
    with legacy_imports(root) as standins:
        module = import_file(root / "model.py")
        doubling, eager = module.Doubling(step_mode="m"), module.Eager(tau=2.0, step_mode="m")
    # v = 2v + x: 0.25, 0.75, 2 -> spike, reset, 0.5
    x = torch.tensor([[0.25], [0.25], [0.5], [0.5]])
    assert doubling(x).flatten().tolist() == [0, 0, 1, 0]
    assert eager(x).flatten().tolist() == [0, 0, 1, 1]  # v = v + (x - v) / 2
    assert any("Doubling" in line and "steps as before" in line for line in standins.lines())


def test_a_neuron_that_cannot_be_obeyed_is_refused(repository: Write) -> None:
    root = repository("unheard", {"model.py": OWN_NEURONS})
    with legacy_imports(root):
        module = import_file(root / "model.py")
        with pytest.raises(ModelError, match=r"Unheard overrides neuronal_charge of .*QIFNode"):
            module.Unheard()


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_cuda_in_a_constructor_stays_on_the_cpu(repository: Write) -> None:
    root = repository(
        "cuda",
        {
            "model.py": """
            import torch
            from torch import nn
            class Net(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.count = torch.tensor(0.).cuda()
            """
        },
    )
    with legacy_imports(root) as standins:
        net = import_file(root / "model.py").Net().cuda()
    assert net.count.device.type == "cpu"
    assert standins.lines() == (".cuda(): ignored, no GPU is available here",)


@needs_absent_timm
def test_each_load_has_its_own_registry(repository: Write) -> None:
    text = """
    from timm.models import create_model, register_model, list_models
    @register_model
    def {name}(pretrained=False, width=1):
        return ("{name}", pretrained, width)
    names = list_models()
    made = create_model("{name}", width=2, drop_rate=None)
    """
    one = load(repository("reg1", {"model.py": text.format(name="a")}))
    two = load(repository("reg2", {"model.py": text.format(name="b")}))
    assert (one.names, two.names) == (["a"], ["b"])
    assert two.made == ("b", False, 2)
    with pytest.raises(ModelError, match=r"'other'.*register b"):
        two.create_model("other")


def test_without_a_folder_the_search_path_stays() -> None:
    path = list(sys.path)
    with legacy_imports() as standins:
        assert sys.path == path
    assert standins.lines() == ()
